/** The pictures in README and docs. The first doubles as a test of the demo notebook in Lab. */
import { expect, galata, test } from '@jupyterlab/galata';
import { Locator, Page } from '@playwright/test';
import * as fs from 'fs';
import * as path from 'path';
import { ElasticPage } from './elastic';

// Galata takes our /elastic/api/kernels for Jupyter's /api/kernels; tests stop their own.
test.use({ kernels: null });

const ROOT = path.resolve(__dirname, '..', '..');
const FRAMES = path.join(ROOT, 'build', 'frames');

test('runs the demo notebook, for the screenshot', async ({
  page,
  request,
  tmpPath
}) => {
  test.setTimeout(240_000);
  const elastic = new ElasticPage(page);
  await elastic.stopAll();
  const contents = galata.newContentsHelper(request);
  await contents.uploadFile(
    path.join(ROOT, 'demo', 'demo.ipynb'),
    `${tmpPath}/demo.ipynb`
  );
  await page.notebook.openByPath(`${tmpPath}/demo.ipynb`);
  await page.notebook.activate('demo.ipynb');
  await elastic.openPanel();
  await expect(elastic.chip).toContainText('1 CPU · 1 GiB');

  await page.notebook.run();
  await expect(
    page.locator('.jp-OutputArea-output', { hasText: 'memory limit' }).or(
      page.locator('.jp-OutputArea-output', {
        hasText: 'the agent itself holds the limit'
      })
    )
  ).toBeVisible({ timeout: 120_000 });
  await expect(page.locator('.widget-slider').first()).toBeVisible();

  await elastic.resize({ memory: '2 GiB' });
  await expect(elastic.panel.getByRole('status')).toContainText('Done');
  await expect(elastic.chip).toContainText('2 GiB');
  const last = (await page.notebook.getCellCount()) - 2;
  expect(await elastic.runAgain(last)).toContain('still here: 3,200,000 readings');

  if (process.env.UPDATE_SCREENSHOT) {
    const plot = page.locator('.jp-OutputArea-output img').first();
    await plot.scrollIntoViewIfNeeded();
    await expect(
      elastic.kernel.getByRole('progressbar', { name: 'Memory' })
    ).toHaveAttribute('aria-valuetext', /of 2 GiB/);
    await page.mouse.move(0, 0);
    await page.screenshot({ path: path.join(ROOT, 'docs', 'screenshot.png') });
  }
  await elastic.stopAll();
});

/** Pictures that `scripts/animate.py` joins: their names say in which order, and for how long. */
class Film {
  constructor(readonly page: Page) {
    fs.rmSync(FRAMES, { recursive: true, force: true });
    fs.mkdirSync(FRAMES, { recursive: true });
  }

  /** Show the page as it is for so many milliseconds. */
  async take(duration: number): Promise<void> {
    const number = String(this._taken++).padStart(2, '0');
    await this.page.screenshot({
      path: path.join(FRAMES, `${number}-${duration}.png`),
      animations: 'disabled'
    });
  }

  /** Show a pointer there: pictures have none of their own. */
  async point(target: Locator, at: { x: number; y: number }): Promise<void> {
    await target.scrollIntoViewIfNeeded();
    const box = (await target.boundingBox())!;
    await this.page.evaluate(
      ([left, top]) => {
        const id = 'film-pointer';
        const pointer = document.getElementById(id) ?? document.createElement('div');
        pointer.id = id;
        pointer.style.cssText = `position: fixed; z-index: 99999; pointer-events: none;
          left: ${left}px; top: ${top}px; width: 18px; height: 18px; border-radius: 50%;
          background: rgb(255 140 0 / 55%); border: 2px solid rgb(200 90 0);
          transform: translate(-50%, -50%);`;
        document.body.append(pointer);
      },
      [box.x + at.x * box.width, box.y + at.y * box.height]
    );
  }

  private _taken = 0;
}

// It tests nothing that other tests do not.
if (process.env.UPDATE_SCREENSHOT) {
  test('resizes a kernel under its variables, for the animated screenshot', async ({
    page
  }) => {
    await page.setViewportSize({ width: 1000, height: 660 });
    const elastic = new ElasticPage(page);
    await elastic.stopAll();
    await elastic.newNotebook('resize.ipynb');
    await elastic.openPanel();
    const middle = { x: 0.5, y: 0.5 };
    const film = new Film(page);

    await elastic.panel
      .getByRole('button', { name: 'Run on an elastic kernel' })
      .click();
    const start = elastic.startForm.getByRole('button', { name: 'Start' });
    await expect(start).toBeEnabled();
    await film.take(1200);
    await film.point(start, middle);
    await film.take(900);
    await start.click();
    await expect(elastic.chip).toContainText('512 MiB');
    await expect(
      elastic.kernel.getByRole('progressbar', { name: 'Memory' })
    ).toHaveAttribute('aria-valuetext', /MiB of 512 MiB/);
    await elastic.run('readings = list(range(1_000_000))\nlen(readings)');
    await film.take(1600);

    const slider = elastic.resizeForm.getByRole('slider', { name: 'Memory' });
    const memory = elastic.resizeForm.getByRole('textbox', { name: 'Memory' });
    const [value, most] = await slider.evaluate((node: any) => [
      Number(node.value),
      Number(node.max)
    ]);
    await slider.focus();
    for (let step = 0; step <= 4; step++) {
      await film.point(slider, { x: (value + step) / most, y: 0.5 });
      await film.take(step ? 250 : 700);
      await slider.press('ArrowRight');
    }
    await expect(memory).not.toHaveValue('512 MiB');
    const size = await memory.inputValue();
    const apply = elastic.resizeForm.getByRole('button', { name: 'Apply' });
    await film.point(apply, middle);
    await film.take(900);
    await apply.click();
    await expect(elastic.panel.getByRole('status')).toContainText('Done');
    await expect(elastic.chip).toContainText(size);
    await film.take(1500);

    await page.notebook.addCell('code', '');
    expect(await elastic.run('len(readings), "still here"')).toContain('1000000');
    await expect(
      elastic.kernel.getByRole('progressbar', { name: 'Memory' })
    ).toHaveAttribute('aria-valuetext', new RegExp(`of ${size}`));
    await film.take(3000);
    await elastic.stopAll();
  });
}
