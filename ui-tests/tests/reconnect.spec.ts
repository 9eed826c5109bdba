/** A server of its own that is killed and started again, under a page that stays. */
import { expect, test } from '@playwright/test';
import { ready, runCell } from './pages';
import { OwnServer } from './servers';

const server = new OwnServer('lab', 40);

test.beforeAll(() => server.start());
test.afterAll(() => server.close());

test('goes on after the server was killed and started again; no dialog stays', async ({
  page
}) => {
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
