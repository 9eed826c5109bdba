/** The core path on a real Kubernetes: pool, start, resize, out of memory, a killed server. */
import { expect, test } from '@jupyterlab/galata';
import { ElasticPage } from './elastic';
import { runCell } from './pages';
import { KubernetesStage, OwnServer } from './servers';

const server = new OwnServer('lab', 42);
const stage = new KubernetesStage();

/** Milliseconds for building Kubernetes, where that was never done. */
const BUILD = 900_000;

// Galata takes our /elastic/api/kernels for Jupyter's /api/kernels; tests stop their own.
// So it does with sessions and terminals, which it cannot ask for while the server is away.
test.use({ kernels: null, sessions: null, terminals: null, baseURL: server.url });

let elastic: ElasticPage;

test.beforeAll(async () => {
  test.setTimeout(BUILD);
  const reason = await stage.open();
  if (reason && process.env.CI) {
    throw new Error(reason);
  }
  test.skip(!!reason, reason);
  server.config = stage.config;
  await server.start();
});

test.afterAll(async () => {
  await server.close();
  await stage.close();
});

test.beforeEach(async ({ page }) => {
  elastic = new ElasticPage(page);
  await elastic.stopAll();
  await elastic.openPanel();
});

test.afterEach(async ({}, info) => {
  if (info.status !== info.expectedStatus) {
    await info.attach('server.log', { body: server.log(), contentType: 'text/plain' });
  }
  await elastic?.stopAll();
});

test('starts from the pool, says where it runs, and resizes with its variables', async () => {
  const pool = elastic.panel.locator('[data-section="pool"]');
  await expect(pool.locator('h3')).toContainText('1 warm', { timeout: 60_000 });
  await pool.getByText('Why a target of 1').press('Enter');
  await expect(pool.getByText('A fixed number, as set or by default.')).toBeVisible();
  await elastic.newNotebook('core.ipynb');
  await elastic.start({ memory: '384 MiB' });

  await expect(elastic.chip).toContainText('384 MiB');
  const kernel = await elastic.onlyKernel({ phase: 'Running', start: 'warm' });
  await expect(elastic.kernel).toContainText(`Pod ${kernel.pod} on node1 · warm start`);
  await expect(pool.getByRole('cell', { name: '100 %' })).toBeVisible();
  await elastic.run('x = 41');
  await elastic.resize({ memory: '768 MiB', cpu: '1' });
  await expect(elastic.panel.getByRole('status')).toContainText('Done');
  await expect(elastic.chip).toContainText('1 CPU · 768 MiB');
  await elastic.onlyKernel({
    pod: kernel.pod,
    actual: { cpu: '1', memory: '768Mi' }
  });
  expect(await elastic.run('print(x + 1)')).toContain('42');
});

test('says what happened after running out of memory, and goes on after a raise', async ({
  page
}) => {
  await elastic.newNotebook('oom.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('256 MiB');
  const hungry = 'block = bytearray(400 * 2**20); print("got", len(block) >> 20)';
  await elastic.begin(hungry);

  const notice = page.locator('.Toastify__toast', { hasText: '256 MiB' });
  await notice.getByRole('button', { name: 'Raise to 512 MiB' }).click();
  await expect(elastic.chip).toContainText('512 MiB');
  await runCell(page, hungry);
  await expect(
    page.locator('.jp-OutputArea-output', { hasText: 'got 400' })
  ).toBeVisible();
});

test('goes on after the server was killed and started again', async ({ page }) => {
  await elastic.newNotebook('killed.ipynb');
  await elastic.start({});
  await expect(elastic.chip).toContainText('256 MiB');
  await elastic.run('x = 41');
  const before = await elastic.onlyKernel();

  await server.end('SIGKILL');
  await server.start();

  // What is asked before the kernel is connected again is sent when it is.
  await runCell(page, 'print(x + 1)');
  await expect(page.locator('.jp-OutputArea-output', { hasText: '42' })).toBeVisible({
    timeout: 60_000
  });
  await expect(page.locator('.jp-Dialog')).toHaveCount(0);
  await elastic.onlyKernel({ kernel_id: before.kernel_id, pod: before.pod });
});
