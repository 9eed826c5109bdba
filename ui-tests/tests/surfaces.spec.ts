/** What there is beside starting and resizing: lists, dialog, launcher, keyboard, silence. */
import AxeBuilder from '@axe-core/playwright';
import { expect, galata, test } from '@jupyterlab/galata';
import { ElasticPage } from './elastic';

// Galata takes our /elastic/api/kernels for Jupyter's /api/kernels; tests stop their own.
test.use({ kernels: null });

let elastic: ElasticPage;

test.beforeEach(async ({ page }) => {
  elastic = new ElasticPage(page);
  await elastic.stopAll();
  await elastic.openPanel();
});

test.afterEach(async () => {
  await elastic.stopAll();
});

test('chooses resources in the dialog of a launcher card', async ({ page }) => {
  const card = page
    .locator('.jp-LauncherCard')
    .filter({ hasText: /^Python 3, elastic · / });
  await expect(card).toContainText('warm');
  await card.click();
  const dialog = page.locator('.jp-Dialog');
  await expect(dialog.getByLabel('Template')).toBeFocused();
  await dialog.getByRole('textbox', { name: 'Memory' }).fill('640 MiB');
  await dialog.getByRole('button', { name: 'Start' }).click();
  await expect(dialog).toBeHidden();
  await expect(elastic.chip).toContainText('640 MiB');
  await expect(page.locator('.jp-Elastic-status')).toContainText('1 CPU · 640 MiB');

  // The next choice begins with the last one, and the start that was counts as measured.
  await page.evaluate(() =>
    (window as any).jupyterapp.commands.execute('elastic:open-panel', {
      section: 'start'
    })
  );
  await expect(elastic.startForm.getByText(/s$/).first()).toBeVisible();
});

test('lists kernels without a notebook, attaches one, stops several at once', async ({
  page
}) => {
  for (const name of ['one', 'two', 'three']) {
    await elastic.startBare(name);
  }
  await elastic.newNotebook('attach.ipynb');
  const row = (name: string) => elastic.myKernels.locator('li', { hasText: name });
  await expect(row('three')).toContainText('Idle');
  await row('one').getByRole('button', { name: 'Use one for this notebook' }).click();
  await expect(elastic.chip).toContainText('256 MiB');
  expect(await elastic.run('print(6 * 7)')).toContain('42');

  await row('two').getByRole('button', { name: 'Resize two' }).click();
  const form = row('two').getByRole('form', { name: 'Resize this kernel' });
  await form.getByRole('textbox', { name: 'Memory' }).fill('320 MiB');
  await form.getByRole('button', { name: 'Apply' }).click();
  await expect(form.getByRole('status')).toContainText('Done');
  await expect(row('two')).toContainText('320 MiB');

  // Lab's own list of what runs has them too.
  await page.sidebar.openTab('jp-running-sessions');
  await expect(
    page.locator('#jp-running-sessions').getByText('two', { exact: true })
  ).toBeVisible();

  await elastic.openPanel();
  await elastic.myKernels.getByRole('checkbox', { name: 'Select two' }).check();
  await elastic.myKernels.getByRole('checkbox', { name: 'Select three' }).check();
  await elastic.panel.getByRole('button', { name: 'Stop selected…' }).click();
  const dialog = page.locator('.jp-Dialog', { hasText: 'Stop 2 kernels?' });
  await dialog.getByRole('button', { name: 'Stop' }).click();
  await expect.poll(async () => (await elastic.kernels()).length).toBe(1);
  await expect(row('two')).toHaveCount(0);
});

test('is reached by palette, menus and settings', async ({ page }) => {
  await elastic.newNotebook('reach.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('512 MiB');

  await page.sidebar.close('left');
  await page.locator('.jp-Notebook .jp-Cell').first().click({ button: 'right' });
  await page.getByRole('menuitem', { name: 'Resize Elastic Kernel' }).click();
  await expect(elastic.resizeForm).toBeVisible();

  await page.evaluate(
    () =>
      void (window as any).jupyterapp.commands.execute(
        'apputils:activate-command-palette'
      )
  );
  const palette = page.locator('#command-palette, .lm-CommandPalette').first();
  for (const label of [
    'Show Elastic Panel',
    'Start Elastic Kernel',
    'Choose Elastic Kernel and Resources',
    'Resize Elastic Kernel',
    'Restart Elastic Kernel',
    'Keep Elastic Kernel Alive',
    'Copy Link to Such an Elastic Kernel',
    'Stop Elastic Kernel'
  ]) {
    await expect(palette.getByText(label).first()).toBeAttached();
  }
  await page.keyboard.press('Escape');

  await page.evaluate(
    () =>
      void (window as any).jupyterapp.commands.execute('settingeditor:open', {
        query: 'Elastic Kernels'
      })
  );
  const settings = page.locator('.jp-SettingsPanel');
  for (const label of ['Side', 'Poll interval (s)', 'Notify of failures']) {
    await expect(settings.getByText(label, { exact: true }).first()).toBeVisible();
  }
});

test('offers what a link asks for, and starts nothing before consent', async ({
  page
}) => {
  await elastic.startBare('linked');
  await page
    .context()
    .grantPermissions(['clipboard-read', 'clipboard-write'])
    .catch(() => undefined);
  await elastic.myKernels.getByText('linked').click({ button: 'right' });
  await page.getByRole('menuitem', { name: 'Copy Link to Such' }).click();
  await expect(page.locator('.Toastify__toast', { hasText: 'copied' })).toBeVisible();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  await elastic.stopAll();

  await page.evaluate(url => window.location.assign(url), link);
  const dialog = page.locator('.jp-Dialog');
  await expect(dialog).toContainText('A link asks for this kernel.');
  await expect(dialog.getByRole('textbox', { name: 'Memory' })).toHaveValue('256 MiB');
  expect(page.url()).not.toContain('elastic=');
  expect(await elastic.kernels()).toEqual([]);
  await dialog.getByRole('button', { name: 'Start' }).click();
  await expect(elastic.chip).toContainText('256 MiB');
});

test('has no accessibility faults, light and dark', async ({ page }) => {
  const faults = async (selector: string): Promise<string[]> => {
    const { violations } = await new AxeBuilder({ page }).include(selector).analyze();
    return violations.map(one => `${one.id}: ${one.help}`);
  };
  await elastic.startBare('lonely');
  await elastic.newNotebook('axe.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('512 MiB');
  await expect(elastic.myKernels.getByText('lonely')).toBeVisible();
  for (const theme of ['JupyterLab Dark', 'JupyterLab Light']) {
    await page.theme.setTheme(theme);
    expect(await faults('#elastic-panel')).toEqual([]);
    expect(await faults('.jp-Elastic-chip')).toEqual([]);
    expect(await faults('.jp-Elastic-status')).toEqual([]);
    void page.evaluate(() =>
      (window as any).jupyterapp.commands.execute('elastic:choose-kernel')
    );
    await expect(page.locator('.jp-Elastic-startDialog form')).toBeVisible();
    expect(await faults('.jp-Elastic-startDialog')).toEqual([]);
    await page.keyboard.press('Escape');
    await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  }
});

test.describe('while hidden', () => {
  test.use({
    mockSettings: {
      ...galata.DEFAULT_SETTINGS,
      'jupyter_elastic:plugin': { pollInterval: 5, usageInterval: 1 }
    }
  });

  test('reads no use of kernels while nothing that shows it is in view', async ({
    page
  }) => {
    await elastic.newNotebook('quiet.ipynb');
    await elastic.start({});
    await expect(elastic.chip).toContainText('512 MiB');
    const asked: string[] = [];
    page.on('request', request => {
      const path = new URL(request.url()).pathname;
      if (path.includes('/elastic/api/')) {
        asked.push(path);
      }
    });
    const uses = (): number => asked.filter(path => path.endsWith('/usage')).length;
    await expect.poll(uses).toBeGreaterThan(1);
    await page.sidebar.close('left');
    await page.notebook.close();
    await expect(elastic.chip).toBeHidden();
    // Safety polls only, and not a single reading of use between them, once what the closing of
    // the notebook has led to is over.
    const polls = (): number =>
      asked.filter(path => path.endsWith('/elastic/api/kernels')).length;
    const allowed = /\/elastic\/api\/(kernels|templates|pool|capacity)$/;
    await expect(async () => {
      asked.length = 0;
      await expect.poll(polls).toBeGreaterThan(1);
      expect(uses()).toBe(0);
      expect(asked.filter(path => !allowed.test(path))).toEqual([]);
    }).toPass({ timeout: 90_000 });
  });
});
