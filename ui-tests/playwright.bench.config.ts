/** For `python -m benchmarks.pixels`: measures, asserts nothing. */
import { defineConfig } from '@playwright/test';
import tests from './playwright.config';

export default defineConfig({
  ...tests,
  testDir: 'bench',
  reporter: 'list',
  timeout: 600_000,
  webServer: undefined,
  use: { ...tests.use, trace: 'off' }
});
