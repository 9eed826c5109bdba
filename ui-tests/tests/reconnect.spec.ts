/** A server of its own that is killed and started again, under a page that stays. */
import { expect, Page, test } from '@playwright/test';
import { ChildProcess, spawn } from 'child_process';
import * as fs from 'fs';
import * as os from 'os';
import * as path from 'path';

const PORT = Number(process.env.ELASTIC_TEST_PORT ?? '8898') + 40;
const URL = `http://localhost:${PORT}`;

let folder: string;
let server: ChildProcess | null = null;

test.beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'elastic-reconnect-'));
});

test.afterEach(async ({ request }) => {
  if (server) {
    const { kernels } = await (await request.get(`${URL}/elastic/api/kernels`)).json();
    for (const { kernel_id } of kernels) {
      await request.delete(`${URL}/elastic/api/kernels/${kernel_id}`);
    }
    await end('SIGTERM');
  }
  fs.rmSync(folder, { recursive: true, force: true });
});

function start(): void {
  server = spawn(
    'jupyter',
    [
      'lab',
      '--config=jupyter_server_test_config.py',
      `--ServerApp.port=${PORT}`,
      '--ServerApp.port_retries=0',
      `--ServerApp.root_dir=${path.join(folder, 'root')}`
    ],
    {
      env: { ...process.env, ELASTIC_TEST_STATE: path.join(folder, 'state') },
      stdio: 'ignore'
    }
  );
}

async function end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
  const ended = new Promise(resolve => server?.once('exit', resolve));
  server?.kill(signal);
  await ended;
  server = null;
}

async function run(page: Page, code: string): Promise<void> {
  await page.evaluate(async source => {
    const { shell, commands } = (window as any).jupyterapp;
    const cell = shell.currentWidget.content.activeCell;
    cell.model.sharedModel.setSource(source);
    await commands.execute('notebook:run-cell');
  }, code);
}

test('goes on after the server was killed and started again; no dialog stays', async ({
  page
}) => {
  fs.mkdirSync(path.join(folder, 'root'));
  start();
  await expect
    .poll(() => page.request.get(`${URL}/api/status`).catch(() => null), {
      timeout: 60_000
    })
    .toBeTruthy();
  await page.goto(`${URL}/lab?reset`);
  await page.waitForFunction(() => (window as any).jupyterapp?.started);
  await page.evaluate(() =>
    (window as any).jupyterapp.restored.then(() =>
      (window as any).jupyterapp.commands.execute('elastic:start-kernel', {
        template: 'elastic-python3',
        resources: { memory: '384Mi' }
      })
    )
  );
  const chip = page.locator('.jp-Elastic-chip');
  await expect(chip).toContainText('384 MiB');
  await run(page, 'x = 41');

  await end('SIGKILL');
  start();

  const output = page.locator('.jp-OutputArea-output', { hasText: '42' });
  await expect
    .poll(() => page.request.get(`${URL}/api/status`).catch(() => null), {
      timeout: 60_000
    })
    .toBeTruthy();
  // What is asked before the kernel is connected again is sent when it is.
  await run(page, 'print(x + 1)');
  await expect(output).toBeVisible({ timeout: 60_000 });
  // Lab's word on the lost connection goes when it is no longer true.
  await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  await expect(chip).toContainText('384 MiB');
});
