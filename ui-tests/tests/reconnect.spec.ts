/** A server of its own that is killed and started again, under a page that stays. */
import { expect, Locator, Page, test } from '@playwright/test';
import * as fs from 'fs';
import * as path from 'path';
import { ready, runCell } from './pages';
import { OwnServer } from './servers';

const server = new OwnServer('lab', 40);

test.beforeAll(() => server.start());
test.afterAll(() => server.close());

/** Lab with a new notebook on a kernel, at the root of the server's files; resolves with its chip. */
async function openWithKernel(page: Page): Promise<Locator> {
  await page.goto(`${server.url}/lab?reset`);
  await ready(page);
  await page.evaluate(() =>
    (window as any).jupyterapp.commands.execute('elastic:start-kernel', {
      template: 'elastic-python3',
      resources: { memory: '384Mi' }
    })
  );
  const chip = page.locator('.jp-Elastic-chip');
  await expect(chip).toContainText('384 MiB');
  return chip;
}

test('goes on after the server was killed and started again; no dialog stays', async ({
  page
}) => {
  const chip = await openWithKernel(page);
  await runCell(page, 'x = 41');

  await server.end('SIGKILL');
  await server.start();

  // What is asked before the kernel is connected again is sent when it is.
  await runCell(page, 'print(x + 1)');
  const output = page.locator('.jp-OutputArea-output', { hasText: '42' });
  await expect(output).toBeVisible({ timeout: 60_000 });
  // Lab's word on the lost connection goes when it is no longer true.
  await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  await expect(chip).toContainText('384 MiB');
});

test('marks a cell as ended that ended meanwhile, and saves what could not be saved', async ({
  page
}) => {
  await openWithKernel(page);
  const execute = (command: string): Promise<unknown> =>
    page.evaluate(
      id => void (window as any).jupyterapp.commands.execute(id).catch(() => null),
      command
    );
  // It waits for a file, so that it ends while the server is away and no sooner.
  const file = (name: string): string => path.join(server.root, name);
  const isThere = (name: string) => expect.poll(() => fs.existsSync(file(name)));
  const code = [
    'import os, time',
    'open("begun", "w").close()',
    'while not os.path.exists("end"):',
    '    time.sleep(0.05)',
    'x = 41',
    'open("ended", "w").close()'
  ].join('\n');
  await page.evaluate(source => {
    const { shell } = (window as any).jupyterapp;
    shell.currentWidget.content.activeCell.model.sharedModel.setSource(source);
  }, code);
  await execute('notebook:run-cell-and-select-next');
  await isThere('begun').toBe(true);
  const prompt = page.locator('.jp-Cell .jp-InputPrompt').first();
  await expect(prompt).toHaveText('[*]:');

  await server.end('SIGKILL');
  fs.writeFileSync(file('end'), '');
  await isThere('ended').toBe(true);
  await execute('docmanager:save');
  const dialog = page.locator('.jp-Dialog');
  await expect(dialog).toContainText('File Save Error');
  await server.start();

  await expect(dialog).toHaveCount(0, { timeout: 60_000 });
  await expect(prompt).toHaveText('[ ]:', { timeout: 60_000 });
  await expect(
    page.locator('.Toastify__toast', { hasText: 'no longer running' })
  ).toBeVisible();
  const notebook: string = await page.evaluate(
    () => (window as any).jupyterapp.shell.currentWidget.context.path
  );
  await expect.poll(() => fs.readFileSync(file(notebook), 'utf-8')).toContain('x = 41');
  await runCell(page, 'print(x + 1)');
  await expect(page.locator('.jp-OutputArea-output', { hasText: '42' })).toBeVisible();
});
