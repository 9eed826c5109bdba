/**
 * From a change in the local cluster to pixels in the panel, and what one update costs where
 * hundreds of kernels are listed. `benchmarks/pixels.py` makes figures of what is written here.
 */
import { CDPSession, expect, Page, test } from '@playwright/test';
import * as fs from 'fs';
import { IMadeKernel, makeKernel } from '../tests/made';
import { ready } from '../tests/pages';
import { OwnServer } from '../tests/servers';

const RUNS = Number(process.env.ELASTIC_BENCH_RUNS ?? '40');
const KERNELS = 500;
/** Milliseconds in which all that follows from a change is over. */
const SETTLED = 1500;

const TRACED = ['toplevel', '__metadata', 'disabled-by-default-devtools.timeline'];

const server = new OwnServer('lab', 43);
const other = new OwnServer('lab', 44);

test.beforeAll(async () => {
  await server.start();
  other.beside = server;
  await other.start();
});

test.afterAll(async () => {
  await other.end('SIGTERM');
  await server.close();
  await other.close();
});

const now = (): number => performance.timeOrigin + performance.now();

async function startKernel(page: Page): Promise<string> {
  const url = `${server.url}/elastic/api/kernels`;
  const data = { template: 'elastic-python3', resources: { memory: '256Mi' } };
  const { kernel_id } = await (await page.request.post(url, { data })).json();
  await expect
    .poll(
      async () => (await (await page.request.get(`${url}/${kernel_id}`)).json()).phase
    )
    .toBe('Running');
  return kernel_id;
}

async function openPanel(page: Page): Promise<void> {
  await page.goto(`${server.url}/lab?reset`);
  await ready(page);
  await page.evaluate(() =>
    (window as any).jupyterapp.commands.execute('elastic:open-panel')
  );
  await expect(page.locator('#elastic-panel')).toContainText('My kernels');
}

/** Rename a kernel through a server; milliseconds until the frame that shows it is drawn. */
async function rename(
  page: Page,
  through: OwnServer,
  id: string,
  name: string
): Promise<number> {
  await page.evaluate(text => {
    const panel = document.getElementById('elastic-panel')!;
    (window as any).drawn = new Promise(resolve => {
      const observer = new MutationObserver(() => {
        if (panel.textContent?.includes(text)) {
          observer.disconnect();
          // The next frame has it; the one after begins when that has been drawn.
          requestAnimationFrame(() =>
            requestAnimationFrame(() =>
              resolve(performance.timeOrigin + performance.now())
            )
          );
        }
      });
      observer.observe(panel, { childList: true, characterData: true, subtree: true });
    });
  }, name);
  const begun = now();
  const answer = await fetch(`${through.url}/elastic/api/kernels/${id}`, {
    method: 'PATCH',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ name })
  });
  expect(answer.ok).toBe(true);
  return (await page.evaluate(() => (window as any).drawn)) - begun;
}

interface ITraceEvent {
  name: string;
  pid: number;
  tid: number;
  /** Microseconds. */
  dur?: number;
  args?: { name?: string };
}

/** Milliseconds of the longest thing that the page's main thread did without a break. */
function longest(trace: Buffer): number {
  const { traceEvents } = JSON.parse(trace.toString()) as {
    traceEvents: ITraceEvent[];
  };
  const key = (one: ITraceEvent): string => `${one.pid}.${one.tid}`;
  const mains = new Set(
    traceEvents
      .filter(one => one.name === 'thread_name' && one.args?.name === 'CrRendererMain')
      .map(key)
  );
  const tasks = traceEvents.filter(
    one => /RunTask$/.test(one.name) && mains.has(key(one))
  );
  return Math.max(...tasks.map(one => one.dur ?? 0)) / 1000;
}

/** Milliseconds of script, style and layout in the page so far. */
async function worked(session: CDPSession): Promise<number> {
  const { metrics } = await session.send('Performance.getMetrics');
  const of = (name: string): number =>
    metrics.find(one => one.name === name)?.value ?? NaN;
  return (
    1000 * (of('ScriptDuration') + of('RecalcStyleDuration') + of('LayoutDuration'))
  );
}

test('measures', async ({ browser, page }) => {
  const found: { [series: string]: number[] } = {};
  const note = (series: string, value: number): void => {
    (found[series] ??= []).push(value);
  };
  await openPanel(page);
  const id = await startKernel(page);
  for (let run = 0; run < RUNS; run++) {
    for (const [series, through] of [
      ['this server', server],
      ['another server', other]
    ] as const) {
      note(series, await rename(page, through, id, `${series} ${run}`));
      // At no fixed distance, or all would fall into the same part of some period.
      await page.waitForTimeout(300 + 700 * Math.random());
    }
  }

  const many: IMadeKernel[] = Array.from({ length: KERNELS - 1 }, (_, index) =>
    makeKernel(`00000000-0000-4000-8000-${String(index).padStart(12, '0')}`, {
      name: `kernel ${index}`
    })
  );
  await page.route(/\/elastic\/api\/kernels(\?|$)/, async route => {
    const response = await route.fetch();
    const { kernels } = await response.json();
    await route.fulfill({ response, json: { kernels: [...kernels, ...many] } });
  });
  await openPanel(page);
  const panel = page.locator('#elastic-panel');
  const rows = panel.locator('.jp-Elastic-kernels > li');
  await expect(panel.getByRole('button', { name: /^Show \d+ more/ })).toBeVisible();
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  for (const series of [`${KERNELS} listed`, `${KERNELS} drawn`]) {
    for (let run = 0; run < RUNS; run++) {
      await page.waitForTimeout(SETTLED);
      const before = await worked(session);
      await rename(page, server, id, `${series} ${run}`);
      await page.waitForTimeout(SETTLED);
      note(`${series}: all`, (await worked(session)) - before);
    }
    for (let run = 0; run < RUNS; run++) {
      await browser.startTracing(page, { categories: TRACED });
      await rename(page, server, id, `${series} again ${run}`);
      await page.waitForTimeout(SETTLED / 2);
      note(`${series}: longest task`, longest(await browser.stopTracing()));
    }
    const more = panel.getByRole('button', { name: /^Show \d+ more/ });
    while (await more.isVisible()) {
      await more.click();
    }
    await expect(rows).toHaveCount(KERNELS);
  }
  // What the page does by itself in the same time.
  for (let run = 0; run < 5; run++) {
    const before = await worked(session);
    await page.waitForTimeout(2 * SETTLED);
    note('nothing', (await worked(session)) - before);
  }
  fs.writeFileSync(
    process.env.ELASTIC_BENCH_OUT ?? 'pixels.json',
    JSON.stringify(found)
  );
});
