/** What tests do in pages that Galata does not manage. */
import { Page } from '@playwright/test';

/** Resolves when Lab or Notebook is there with all its plugins. */
export async function ready(page: Page): Promise<void> {
  await page.waitForFunction(() => (window as any).jupyterapp?.started);
  await page.evaluate(() => (window as any).jupyterapp.restored);
}

/** Run the active cell of the notebook in front with this code. */
export async function runCell(page: Page, code: string): Promise<void> {
  await page.evaluate(async source => {
    const { shell, commands } = (window as any).jupyterapp;
    const cell = shell.currentWidget.content.activeCell;
    cell.model.sharedModel.setSource(source);
    await commands.execute('notebook:run-cell');
  }, code);
}
