/**
 * Browser tests against a real server with the real extension.
 *
 * CHROMIUM names the browser of this machine; nothing is downloaded.
 */
import { defineConfig } from '@playwright/test';

// eslint-disable-next-line @typescript-eslint/no-require-imports
const base = require('@jupyterlab/galata/lib/playwright-config');

const port = process.env.ELASTIC_TEST_PORT ?? '8898';
const baseURL = `http://localhost:${port}`;

export default defineConfig({
  ...base,
  testDir: 'tests',
  // For a machine that does other work too: what comes sooner is not waited for any longer.
  timeout: 240_000,
  expect: { timeout: 40_000 },
  // One server, one pool, one capacity: tests would take kernels from each other.
  workers: 1,
  fullyParallel: false,
  retries: 0,
  use: {
    ...base.use,
    baseURL,
    viewport: { width: 1360, height: 860 },
    video: 'off',
    trace: 'retain-on-failure',
    launchOptions: {
      executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
      args: ['--no-sandbox']
    }
  },
  webServer: {
    command: 'jupyter lab --config jupyter_server_test_config.py',
    url: `${baseURL}/lab`,
    timeout: 240_000,
    reuseExistingServer: !process.env.CI,
    gracefulShutdown: { signal: 'SIGTERM', timeout: 20_000 }
  }
});
