/** Notebook 7: the surfaces it has. */
import AxeBuilder from '@axe-core/playwright';
import { expect, Locator, Page, test } from '@playwright/test';
import { ready, runCell } from './pages';
import { OwnServer } from './servers';

const server = new OwnServer('notebook', 41);

test.beforeAll(() => server.start());
test.afterAll(() => server.close());

const NOTEBOOK = {
  metadata: { kernelspec: { name: 'python3', display_name: 'Python 3' } },
  nbformat: 4,
  nbformat_minor: 5,
  cells: []
};

async function open(page: Page, name: string): Promise<void> {
  const content = { type: 'notebook', format: 'json', content: NOTEBOOK };
  const answer = await page.request.put(`${server.url}/api/contents/${name}`, {
    data: content
  });
  expect(answer.ok()).toBe(true);
  await page.goto(`${server.url}/notebooks/${name}`);
  await ready(page);
}

async function menu(page: Page, ...labels: string[]): Promise<void> {
  for (const label of labels) {
    await page.getByRole('menuitem', { name: label }).first().click();
  }
}

const chipOf = (page: Page): Locator => page.locator('.jp-Elastic-chip');
const outputOf = (page: Page, text: string): Locator =>
  page.locator('.jp-OutputArea-output', { hasText: text });

test('starts by the dialog of the Kernel menu, resizes from the panel, variables stay', async ({
  page
}) => {
  await open(page, 'seven.ipynb');
  await expect(chipOf(page)).toBeHidden();
  await menu(page, 'Kernel', 'Choose Elastic Kernel and Resources');
  const dialog = page.locator('.jp-Dialog');
  await expect(dialog.getByLabel('Template')).toBeFocused();
  await dialog.getByRole('textbox', { name: 'Memory' }).fill('640 MiB');
  await dialog.getByRole('button', { name: 'Start' }).click();
  await expect(dialog).toBeHidden();
  await expect(chipOf(page)).toContainText('640 MiB');
  await runCell(page, 'x = 41; print("set")');
  await expect(outputOf(page, 'set')).toBeVisible();

  await chipOf(page).click();
  const panel = page.locator('#elastic-panel');
  await expect(panel.locator('.jp-Elastic-kernel')).toContainText('Python 3, elastic');
  const form = panel.getByRole('form', { name: 'Resize this kernel' });
  await form.getByRole('textbox', { name: 'Memory' }).fill('768 MiB');
  await form.getByRole('button', { name: 'Apply' }).click();
  await expect(panel.getByRole('status')).toContainText('Done');
  await expect(chipOf(page)).toContainText('768 MiB');
  await runCell(page, 'print(x + 1)');
  await expect(outputOf(page, '42')).toBeVisible();

  const { violations } = await new AxeBuilder({ page })
    .include('#elastic-panel')
    .include('.jp-Elastic-chip')
    .analyze();
  expect(violations.map(one => `${one.id}: ${one.help}`)).toEqual([]);

  await panel.getByRole('button', { name: 'Stop', exact: true }).click();
  await page.locator('.jp-Dialog').getByRole('button', { name: 'Stop' }).click();
  await expect(chipOf(page)).toBeHidden();
  await expect(panel.getByText('You have no elastic kernels.')).toBeVisible();
});

test('says limit and peak after running out of memory, and raises it', async ({
  page
}) => {
  await open(page, 'oom.ipynb');
  await page.evaluate(() =>
    (window as any).jupyterapp.commands.execute('elastic:start-kernel', {
      template: 'elastic-python3',
      resources: { memory: '384Mi' }
    })
  );
  await expect(chipOf(page)).toContainText('384 MiB');
  await runCell(page, 'block = bytearray(900 * 2**20)');
  const notice = page.locator('.Toastify__toast', { hasText: '384 MiB' });
  await notice.getByRole('button', { name: 'Raise to 768 MiB' }).click();
  await expect(chipOf(page)).toContainText('768 MiB');
});

test('starts from the list of files, in a notebook of its own', async ({
  context,
  page
}) => {
  await page.goto(`${server.url}/tree`);
  await ready(page);
  await page.evaluate(() =>
    (window as any).jupyterapp.commands.execute('elastic:open-panel', {
      section: 'start'
    })
  );
  const panel = page.locator('#elastic-panel');
  const form = panel.getByRole('form', { name: 'Start a kernel' });
  await form.getByRole('textbox', { name: 'Memory' }).fill('320 MiB');
  const opened = context.waitForEvent('page');
  await form.getByRole('button', { name: 'Start' }).click();
  const notebook = await opened;
  await ready(notebook);
  await expect(chipOf(notebook)).toContainText('320 MiB');
  await runCell(notebook, 'print(6 * 7)');
  await expect(outputOf(notebook, '42')).toBeVisible();
  await expect(panel.getByRole('list', { name: 'My kernels' })).toContainText(
    '320 MiB'
  );
});
