/**
 * How panel and dialog look, in the themes there are. What they show is made up, so that nothing
 * moves between two runs.
 *
 * Letters look different with other fonts. Where those of the snapshots are not installed, pictures
 * are not compared, and only attached to the report. `make test-ui TESTS="-g looks -u"` renews them.
 */
import { expect, galata, test } from '@jupyterlab/galata';
import { Locator, Page, TestInfo } from '@playwright/test';
import { ElasticPage } from './elastic';
import { answer, IMadeKernel, makeKernel } from './made';

const THEMES = [
  { name: 'JupyterLab Light', file: 'light' },
  { name: 'JupyterLab Dark', file: 'dark' },
  { name: 'JupyterLab Dark High Contrast', file: 'high-contrast' }
];

/** What a line of text in the font of the snapshots measures, in pixels. */
const MEASURE = 364.69;

test.use({
  kernels: null,
  autoGoto: false,
  viewport: { width: 1360, height: 1700 },
  mockSettings: {
    ...galata.DEFAULT_SETTINGS,
    'jupyter_elastic:plugin': { pollInterval: 5, usageInterval: 1 }
  }
});

test.describe.configure({ timeout: 180_000 });

async function hasFontsOfSnapshots(page: Page): Promise<boolean> {
  const width = await page.evaluate(() => {
    const probe = document.createElement('span');
    probe.textContent = 'The quick brown fox jumps over 0123456789 lazy dogs.';
    probe.style.cssText =
      'position: absolute; white-space: pre; font: 13px var(--jp-ui-font-family)';
    document.body.append(probe);
    const found = probe.getBoundingClientRect().width;
    probe.remove();
    return found;
  });
  return Math.abs(width - MEASURE) < 0.5;
}

async function looks(
  target: Locator,
  name: string,
  isComparable: boolean,
  info: TestInfo
): Promise<void> {
  if (isComparable || info.config.updateSnapshots === 'all') {
    await expect.soft(target).toHaveScreenshot(`${name}.png`, {
      maxDiffPixelRatio: 0.02,
      threshold: 0.3
    });
  } else {
    const body = await target.screenshot({ animations: 'disabled' });
    await info.attach(name, { body, contentType: 'image/png' });
  }
}

test('looks as it should, light, dark and in high contrast', async ({ page }, info) => {
  const elastic = new ElasticPage(page);
  const kernels: IMadeKernel[] = [
    makeKernel('00000000-0000-4000-8000-000000000001', {
      name: 'training',
      execution_state: 'busy'
    }),
    makeKernel('00000000-0000-4000-8000-000000000002', {
      path: 'work/lost.ipynb',
      phase: 'Failed',
      reason: 'NodeLost',
      message: 'Its node was lost.'
    })
  ];
  await answer(page, () => kernels);
  await page.goto();
  await elastic.newNotebook('analysis.ipynb');
  // The plain kernel of the notebook is given out as an elastic one.
  const id = await page.evaluate(
    () =>
      (window as any).jupyterapp.shell.currentWidget.sessionContext.session.kernel.id
  );
  kernels.unshift(makeKernel(id));
  await elastic.openPanel();
  await expect(elastic.kernel).toContainText('62 % · 20 GiB of 80 GiB');
  // The last reading that is made up.
  await expect(elastic.kernel).toContainText('3.5 GiB of 4 GiB');
  await elastic.panel.getByRole('button', { name: 'Start a kernel' }).click();
  for (const why of await elastic.panel.locator('summary').all()) {
    await why.click();
  }
  const isComparable = await hasFontsOfSnapshots(page);
  if (!isComparable) {
    info.annotations.push({
      type: 'not compared',
      description: 'the fonts of the snapshots are not installed'
    });
  }
  for (const { name, file } of THEMES) {
    await page.theme.setTheme(name);
    await page.mouse.move(1359, 1699);
    await elastic.panel.evaluate(node => (document.activeElement as any)?.blur());
    await looks(elastic.panel, `panel-${file}`, isComparable, info);
    void page.evaluate(() =>
      (window as any).jupyterapp.commands.execute('elastic:choose-kernel')
    );
    const dialog = page.locator('.jp-Dialog-content', {
      has: page.locator('.jp-Elastic-startDialog form')
    });
    await expect(dialog).toBeVisible();
    await looks(dialog, `dialog-${file}`, isComparable, info);
    await page.keyboard.press('Escape');
    await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  }
});
