/** The picture in the README, which doubles as a test of the demo notebook in Lab. */
import { expect, galata, test } from '@jupyterlab/galata';
import * as path from 'path';
import { ElasticPage } from './elastic';

// Galata takes our /elastic/api/kernels for Jupyter's /api/kernels; tests stop their own.
test.use({ kernels: null });

const ROOT = path.resolve(__dirname, '..', '..');

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
