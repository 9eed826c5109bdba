import { expect, test } from '@jupyterlab/galata';
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

test('starts with resources for the notebook that is open, and keeps them in it', async ({
  page,
  tmpPath
}) => {
  await elastic.newNotebook('start.ipynb');
  await expect(elastic.panel.getByText('is on the plain kernel')).toBeVisible();
  await expect(elastic.chip).toBeHidden();

  await elastic.panel.getByRole('button', { name: 'Run on an elastic kernel' }).click();
  await elastic.start({ memory: '768 MiB', cpu: '0.5' });

  await expect(elastic.chip).toContainText('0.5 CPU · 768 MiB');
  await expect(elastic.kernel.getByText('Python 3, elastic')).toBeVisible();
  await expect(
    elastic.myKernels.getByRole('button', { name: 'Stop start.ipynb' })
  ).toBeVisible();
  expect(await elastic.run('print(6 * 7)')).toContain('42');
  await elastic.onlyKernel({
    phase: 'Running',
    actual: { cpu: '500m', memory: '768Mi' }
  });

  const wish = {
    template: 'elastic-python3',
    resources: { cpu: '500m', memory: '768Mi' }
  };
  expect(await elastic.savedWish(`${tmpPath}/start.ipynb`, wish)).toEqual(wish);
});

test('asks before a kernel is left that has run something', async ({ page }) => {
  await elastic.startBare('other');
  await elastic.newNotebook('leave.ipynb');
  // Nothing has run: nothing is asked.
  await elastic.start({});
  await expect(elastic.chip).toContainText('512 MiB');
  await elastic.run('x = 41');

  await elastic.panel.getByRole('button', { name: 'Start a kernel' }).click();
  await elastic.start({ memory: '640 MiB' });
  // Enter once more is no consent.
  const dialog = page.locator('.jp-Dialog');
  await expect(dialog.getByRole('button', { name: 'Cancel' })).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(dialog).toBeHidden();
  const use = elastic.myKernels.getByRole('button', { name: 'Use other' });
  await use.click();
  await elastic.leaveKernel('Cancel');
  expect(await elastic.run('print(x + 1)')).toContain('42');
  expect(await elastic.kernels()).toHaveLength(2);

  // The dialog of the Kernel menu is the question itself.
  await page.evaluate(
    () => void (window as any).jupyterapp.commands.execute('elastic:choose-kernel')
  );
  await expect(dialog).toContainText('"leave.ipynb" gets another kernel');
  await dialog.getByRole('button', { name: 'Cancel' }).click();
  await expect(dialog).toBeHidden();

  await use.click();
  await elastic.leaveKernel('Change');
  await expect(elastic.chip).toContainText('256 MiB');
  await expect.poll(() => elastic.run('print("x" in globals())')).toContain('False');
});

test('knows a notebook that is renamed while its kernel starts', async ({ page }) => {
  await page.route(/\/api\/sessions\?/, async route => {
    if (route.request().method() === 'POST') {
      await new Promise(resolve => setTimeout(resolve, 3000));
    }
    await route.fallback();
  });
  await page.notebook.createNew('renamed.ipynb', { kernel: 'elastic-python3' });
  await expect(
    elastic.myKernels.getByRole('button', { name: 'Stop renamed.ipynb' })
  ).toBeVisible();
});

test('opens a new notebook when none is open', async () => {
  await elastic.start({ memory: '640 MiB' });
  await expect(elastic.chip).toContainText('640 MiB');
  expect(await elastic.run('print("hel" + "lo")')).toContain('hello');
  await elastic.onlyKernel();
});

test('resizes a running kernel, whose variables stay', async ({ page, tmpPath }) => {
  await elastic.newNotebook('resize.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('512 MiB');
  await elastic.run('x = 41');

  const apply = elastic.resizeForm.getByRole('button', { name: 'Apply' });
  await expect(apply).toBeDisabled();
  // By keyboard: the slider, one step up, and Apply.
  await elastic.resizeForm.getByRole('slider', { name: 'Memory' }).focus();
  await page.keyboard.press('ArrowRight');
  await expect(elastic.resizeForm.getByRole('textbox', { name: 'Memory' })).toHaveValue(
    '768 MiB'
  );
  await apply.press('Enter');

  await expect(elastic.panel.getByRole('status')).toContainText('Done');
  await expect(elastic.chip).toContainText('768 MiB');
  await elastic.onlyKernel({ actual: { memory: '768Mi' } });
  expect(await elastic.run('print(x + 1)')).toContain('42');

  await elastic.savedWish(`${tmpPath}/resize.ipynb`, {
    resources: { memory: '768Mi' }
  });
});

test('refuses to take memory that is in use, with figures and a remedy', async () => {
  await elastic.newNotebook('shrink.ipynb');
  await elastic.start({ memory: '1 GiB' });
  await expect(elastic.chip).toContainText('1 GiB');
  await elastic.run(
    'block = bytearray(600 << 20); block[::4096] = b"x" * len(block[::4096])'
  );
  await elastic.resize({ memory: '256 MiB' });

  const refusal = elastic.resizeForm.getByRole('alert');
  await expect(refusal).toContainText('256 MiB');
  await expect(refusal.locator('.jp-Elastic-remedy')).not.toBeEmpty();
  await expect(elastic.chip).toContainText('1 GiB');
  expect(await elastic.run('print(len(block) >> 20)')).toContain('600');
});

test('moves a kernel to another pod where the size can be had, by consent only', async ({
  page,
  tmpPath
}) => {
  await elastic.newNotebook('move.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('512 MiB');
  await elastic.run('x = 41');
  const before = await elastic.onlyKernel({ phase: 'Running' });
  // No node of this machine can be full.
  await elastic.interceptResize(async () => ({
    title: 'The node of the kernel has no room for 768 MiB.',
    status: 409,
    reason: 'NoNodeFits',
    remedy: 'Ask for less.',
    message: 'The node of the kernel has no room for 768 MiB. Ask for less.'
  }));
  await elastic.resize({ memory: '768 MiB' });

  const refusal = elastic.resizeForm.getByRole('alert');
  await expect(refusal).toContainText('no room for 768 MiB');
  await expect(refusal).toContainText('Ask for less.');
  const offer = refusal.getByRole('button', { name: 'Move to another pod' });
  const dialog = page.locator('.jp-Dialog', { hasText: 'Move the kernel' });
  await offer.press('Enter');
  await expect(dialog).toContainText(
    '"move.ipynb" gets another pod with 1 CPU · 768 MiB'
  );
  await expect(dialog).toContainText('All its variables are lost');
  // Enter once more is no consent.
  await expect(dialog.getByRole('button', { name: 'Cancel' })).toBeFocused();
  await page.keyboard.press('Enter');
  await expect(dialog).toBeHidden();
  await elastic.onlyKernel({ pod: before.pod });
  expect(await elastic.run('print(x + 1)')).toContain('42');

  await offer.click();
  await dialog.getByRole('button', { name: 'Move' }).click();
  await expect(elastic.panel.getByRole('status')).toContainText(
    'without its variables'
  );
  await expect(elastic.chip).toContainText('768 MiB');
  const after = await elastic.onlyKernel({
    kernel_id: before.kernel_id,
    phase: 'Running',
    actual: { memory: '768Mi' }
  });
  expect(after.pod).not.toBe(before.pod);
  await expect.poll(() => elastic.run('print("x" in globals())')).toContain('False');

  await elastic.savedWish(`${tmpPath}/move.ipynb`, { resources: { memory: '768Mi' } });
});

test('shows what a resize waits for, as long as it does', async ({ page }) => {
  await elastic.newNotebook('waits.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('512 MiB');
  let isWaiting = true;
  let release = (): void => undefined;
  const released = new Promise<null>(resolve => (release = () => resolve(null)));
  await elastic.interceptResize(() => released);
  // Nothing on this machine waits; the record says so all the same.
  await page.route(/\/elastic\/api\/kernels(\?|$)/, async route => {
    const response = await route.fetch();
    const { kernels } = await response.json();
    const resize = { state: 'InProgress', message: 'The node has no room now.' };
    const told = kernels.map((one: object) => (isWaiting ? { ...one, resize } : one));
    await route.fulfill({ response, json: { kernels: told } });
  });
  await elastic.resize({ memory: '768 MiB' });

  const status = elastic.panel.getByRole('status');
  await expect(status).toContainText('The node has no room now.');
  isWaiting = false;
  release();
  await expect(status).toContainText('Done');
  await expect(elastic.chip).toContainText('768 MiB');
});

test('says limit and peak after running out of memory, and goes on after a raise', async ({
  page
}) => {
  await elastic.newNotebook('oom.ipynb');
  await elastic.start({ memory: '384 MiB' });
  await expect(elastic.chip).toContainText('384 MiB');
  const hungry =
    'block = bytearray(900 << 20); block[::4096] = b"x" * len(block[::4096]); print("got", len(block) >> 20)';
  await elastic.begin(hungry);

  const notice = page.locator('.Toastify__toast', { hasText: '384 MiB' });
  await expect(notice).toBeVisible();
  await elastic.onlyKernel({ reason: 'OutOfMemory' });
  await expect(notice.getByRole('button', { name: 'Other size' })).toBeVisible();
  // Lab's own dialog would say less, over everything.
  await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  await notice.getByRole('button', { name: 'Raise to 768 MiB' }).click();
  await expect(elastic.chip).toContainText('768 MiB');
  await elastic.onlyKernel({ actual: { memory: '768Mi' } });
  await elastic.resize({ memory: '2 GiB' });
  await expect(elastic.panel.getByRole('status')).toContainText('Done');

  await expect.poll(() => elastic.run(hungry)).toContain('got 900');
});

test('blames running out of memory on the cell that did, and on no other', async ({
  page
}) => {
  await elastic.newNotebook('blame.ipynb');
  await elastic.start({ memory: '384 MiB' });
  await expect(elastic.chip).toContainText('384 MiB');
  await elastic.run('x = 41');
  await page.notebook.addCell('code', '');
  await elastic.begin('block = bytearray(900*2**20)');

  const cells = page.locator('.jp-Notebook .jp-CodeCell');
  const red = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]';
  await expect(cells.nth(1).locator(red)).toContainText('384 MiB');
  await expect(cells.nth(0).locator(red)).toHaveCount(0);

  const toast = page.locator('.Toastify__toast', { hasText: '384 MiB' });
  await expect(toast).not.toContainText('…');
  await expect(toast.getByRole('button', { name: /^Raise to/ })).toBeVisible();
  await expect(toast.getByRole('button', { name: 'Restart kernel' })).toHaveCount(0);
  await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  // Raised in the panel: then the notice is no longer true.
  await elastic.kernel.getByRole('button', { name: /^Raise to/ }).click();
  await expect(elastic.chip).toContainText('768 MiB');
  await expect(toast).toHaveCount(0);
});

test('says why a kernel came back that was killed, without a dialog', async ({
  page
}) => {
  await elastic.newNotebook('killed.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('512 MiB');
  await elastic.begin('import os; os.kill(os.getpid(), 9)');
  const toast = page.locator('.Toastify__toast', { hasText: 'killed.ipynb' });
  await expect(toast).toContainText('SIGKILL');
  await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  await expect.poll(() => elastic.run('print(6 * 7)')).toContain('42');
});

test('gives a notebook its resources again when it is opened again', async ({
  page,
  tmpPath
}) => {
  await elastic.newNotebook('again.ipynb');
  await elastic.start({ memory: '896 MiB' });
  await expect(elastic.chip).toContainText('896 MiB');
  const first = await elastic.onlyKernel();
  await elastic.savedWish(`${tmpPath}/again.ipynb`, { resources: { memory: '896Mi' } });
  await page.notebook.close();
  await elastic.stopAll();

  // Galata opens files by the file browser, whose place the panel has.
  await page.sidebar.openTab('filebrowser');
  await page.notebook.openByPath(`${tmpPath}/again.ipynb`);
  await page.notebook.activate('again.ipynb');
  await expect(elastic.chip).toContainText('896 MiB');
  const second = await elastic.onlyKernel({ resources: { memory: '896Mi' } });
  expect(second.kernel_id).not.toBe(first.kernel_id);
});

test('restarts and stops the kernel from the panel', async ({ page }) => {
  await elastic.newNotebook('life.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toBeVisible();
  await elastic.run('x = 1');

  await elastic.kernel.getByRole('button', { name: 'Restart' }).click();
  await page.locator('.jp-Dialog').getByRole('button', { name: 'Confirm' }).click();
  await expect.poll(() => elastic.run('print("x" in globals())')).toContain('False');
  await elastic.onlyKernel();

  const refused: string[] = [];
  page.on('response', response => {
    if (response.request().method() === 'DELETE' && !response.ok()) {
      refused.push(`${response.status()} ${response.url()}`);
    }
  });
  await elastic.kernel.getByRole('button', { name: 'Stop' }).click();
  await page.locator('.jp-Dialog').getByRole('button', { name: 'Stop' }).click();
  await expect(elastic.chip).toBeHidden();
  await expect(elastic.panel.getByText('You have no elastic kernels.')).toBeVisible();
  expect(refused).toEqual([]);
  await expect.poll(() => elastic.kernels()).toHaveLength(0);
});

test('refuses a start for which there is no room, and leaves the old kernel', async () => {
  await elastic.newNotebook('room.ipynb');
  await elastic.run('x = 7');
  await elastic.start({ memory: '7.5 GiB' });
  await elastic.leaveKernel('Change');

  const refusal = elastic.startForm.getByRole('alert');
  await expect(refusal).toContainText('7.5 GiB');
  await expect(refusal).toContainText('ask for less');
  await expect(
    refusal.getByRole('button', { name: /^Start with 1 CPU/ })
  ).toBeVisible();
  expect(await elastic.run('print(x)')).toContain('7');
});

test('says why a kernel did not start', async ({ page }) => {
  await elastic.newNotebook('fails.ipynb');
  await elastic.run('x = 8');
  await elastic.start({ template: 'fails' });
  await elastic.leaveKernel('Change');

  await expect(elastic.startForm.getByRole('alert')).not.toBeEmpty({ timeout: 60_000 });
  // The form is in front: a notification would only say it again.
  await expect(page.locator('.Toastify__toast--error')).toHaveCount(0);
  expect(await elastic.run('print(x)')).toContain('8');
  await elastic.startForm.getByRole('button', { name: 'Dismiss' }).click();
  await expect(elastic.panel.getByText('You have no elastic kernels.')).toBeVisible();
  await expect.poll(() => elastic.kernels()).toHaveLength(0);
});

test('starts from the launcher, and lists and stops what runs', async ({ page }) => {
  await page
    .locator('.jp-LauncherCard[title="Python 3, elastic"]')
    .or(page.locator('.jp-LauncherCard', { hasText: 'Python 3, elastic' }))
    .first()
    .click();
  await expect(elastic.chip).toContainText('1 CPU · 512 MiB');
  await expect(elastic.myKernels.getByRole('listitem')).toHaveCount(1);
  await elastic.myKernels
    .getByRole('button', { name: /^Stop Untitled.*ipynb$/ })
    .click();
  await page.locator('.jp-Dialog').getByRole('button', { name: 'Stop' }).click();
  await expect(elastic.panel.getByText('You have no elastic kernels.')).toBeVisible();
});

test('does not overflow a narrow sidebar', async ({ page }) => {
  await elastic.newNotebook('narrow.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toBeVisible();
  await elastic.panel.getByRole('button', { name: 'Start a kernel' }).click();
  const widths = await elastic.panel.evaluate(node => {
    node.style.width = '250px';
    return { client: node.clientWidth, scroll: node.scrollWidth };
  });
  expect(widths.scroll).toBeLessThanOrEqual(widths.client);
  await page.keyboard.press('Escape');
});
