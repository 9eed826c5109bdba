/** What tests do with the panel, the chip and the API, in the words of a user. */
import { expect, IJupyterLabPageFixture } from '@jupyterlab/galata';
import { Locator } from '@playwright/test';

/**
 * Milliseconds for what Galata waits for where it is not told how long. Its own 15 s are too few for
 * a page to load on a machine that does other work too.
 */
const PATIENCE = 60_000;

// eslint-disable-next-line @typescript-eslint/no-require-imports
const utils = require('@jupyterlab/galata/lib/utils');
const { waitForCondition } = utils;
utils.waitForCondition = (
  condition: () => Promise<boolean> | boolean,
  timeout = PATIENCE
) => waitForCondition(condition, timeout);

export interface IKernel {
  kernel_id: string;
  pod: string;
  template: string;
  phase: string;
  start: string | null;
  reason: string;
  message: string;
  resources: { cpu: string; memory: string };
  actual: { cpu: string; memory: string } | null;
}

export class ElasticPage {
  constructor(readonly page: IJupyterLabPageFixture) {}

  get panel(): Locator {
    return this.page.locator('#elastic-panel');
  }

  get kernel(): Locator {
    return this.panel.locator('.jp-Elastic-kernel');
  }

  get startForm(): Locator {
    return this.panel.getByRole('form', { name: 'Start a kernel' });
  }

  get resizeForm(): Locator {
    return this.panel.getByRole('form', { name: 'Resize this kernel' });
  }

  get chip(): Locator {
    return this.page.locator('.jp-NotebookPanel:not(.lm-mod-hidden) .jp-Elastic-chip');
  }

  get myKernels(): Locator {
    return this.panel.getByRole('list', { name: 'My kernels' });
  }

  async openPanel(): Promise<void> {
    await this.page.evaluate(() =>
      (window as any).jupyterapp.commands.execute('elastic:open-panel')
    );
    await expect(this.panel.getByText('My kernels')).toBeVisible();
  }

  /** A new notebook on the plain kernel. */
  async newNotebook(name: string): Promise<void> {
    await this.page.notebook.createNew(name, { kernel: 'python3' });
    await this.page.waitForCondition(
      async () =>
        (await this.page.locator('.jp-Notebook-ExecutionIndicator').count()) > 0
    );
  }

  /**
   * Run the notebook's last cell anew with this code; returns what it printed, once it has ended.
   *
   * By Lab's command, which says when that is: a look at prompts may come before they change.
   */
  async run(code: string): Promise<string> {
    return this._run(code);
  }

  /** Begin to run the notebook's last cell; do not wait for its end. */
  async begin(code: string): Promise<void> {
    await this._run(code, false);
  }

  /** Run a cell as it is; returns what it printed, once it has ended. */
  async runAgain(index: number): Promise<string> {
    return this._run(null, true, index);
  }

  async start(options: {
    memory?: string;
    cpu?: string;
    template?: string;
  }): Promise<void> {
    const form = this.startForm;
    if (options.template) {
      await form.getByLabel('Template').selectOption(options.template);
    }
    await this._fill(form, options);
    await form.getByRole('button', { name: 'Start' }).click();
  }

  /** Answer the question whether a kernel that has run something may be left. */
  async leaveKernel(answer: 'Change' | 'Cancel'): Promise<void> {
    const dialog = this.page.locator('.jp-Dialog', { hasText: 'Change the kernel?' });
    await expect(dialog).toContainText('All its variables are lost.');
    await dialog.getByRole('button', { name: answer }).click();
    await expect(dialog).toBeHidden();
  }

  async resize(options: { memory?: string; cpu?: string }): Promise<void> {
    await this._fill(this.resizeForm, options);
    await this.resizeForm.getByRole('button', { name: 'Apply' }).click();
  }

  /**
   * Answer requests to resize in place in the server's stead, as `reply` says; a null lets them
   * through. Moves to another pod are always let through.
   */
  async interceptResize(reply: () => Promise<object | null>): Promise<void> {
    await this.page.route(/\/elastic\/api\/kernels\/[^/]+$/, async route => {
      const request = route.request();
      const isResize = request.method() === 'PATCH' && !request.postDataJSON().replace;
      const problem = isResize ? await reply() : null;
      await (problem
        ? route.fulfill({
            status: 409,
            contentType: 'application/problem+json',
            body: JSON.stringify(problem)
          })
        : route.fallback());
    });
  }

  /** My kernels, as the server has them. */
  async kernels(): Promise<IKernel[]> {
    const response = await this.page.request.get('/elastic/api/kernels');
    expect(response.ok()).toBe(true);
    return (await response.json()).kernels;
  }

  /** The one kernel there is, once there is one alone and it is such. */
  async onlyKernel(such: object = {}): Promise<IKernel> {
    let kernels: IKernel[] = [];
    await expect
      .poll(async () => (kernels = await this.kernels()))
      .toMatchObject([such]);
    return kernels[0];
  }

  /** A kernel that no notebook uses. */
  async startBare(name: string): Promise<void> {
    const response = await this.page.request.post('/elastic/api/kernels', {
      data: { template: 'elastic-python3', name, resources: { memory: '256Mi' } }
    });
    expect(response.ok()).toBe(true);
    const { kernel_id } = await response.json();
    await expect
      .poll(async () => {
        const kernel = (await this.kernels()).find(one => one.kernel_id === kernel_id);
        return kernel?.phase;
      })
      .toBe('Running');
  }

  /** Also those that come up while others are stopped. */
  async stopAll(): Promise<void> {
    await expect
      .poll(async () => {
        const kernels = await this.kernels();
        for (const { kernel_id } of kernels) {
          await this.page.request.delete(`/elastic/api/kernels/${kernel_id}`);
        }
        return kernels.length;
      })
      .toBe(0);
  }

  /** Save the notebook; resolves with its `metadata.elastic` on disk, once that is such. */
  async savedWish(path: string, such: Record<string, unknown>): Promise<unknown> {
    await this.page.notebook.save();
    let wish: unknown;
    await expect
      .poll(async () => {
        const response = await this.page.request.get(`/api/contents/${path}?content=1`);
        return (wish = (await response.json()).content.metadata.elastic);
      })
      .toMatchObject(such);
    return wish;
  }

  private async _run(code: string | null, waits = true, index = -1): Promise<string> {
    return this.page.evaluate(
      async ([source, isWaited, at]) => {
        const { shell, commands } = (window as any).jupyterapp;
        const { content } = shell.currentWidget;
        content.activeCellIndex = at < 0 ? content.widgets.length - 1 : at;
        const { model } = content.activeCell;
        if (source !== null) {
          model.sharedModel.setSource(source);
        }
        const ran = commands.execute('notebook:run-cell');
        if (!isWaited) {
          return '';
        }
        await ran;
        const outputs: any[] = model.outputs.toJSON();
        return outputs
          .flatMap(one => one.text ?? one.data?.['text/plain'] ?? one.traceback ?? [])
          .join('');
      },
      [code, waits, index] as [string | null, boolean, number]
    );
  }

  private async _fill(
    form: Locator,
    options: { memory?: string; cpu?: string }
  ): Promise<void> {
    if (options.cpu) {
      await form.getByRole('textbox', { name: 'CPU' }).fill(options.cpu);
    }
    if (options.memory) {
      await form.getByRole('textbox', { name: 'Memory' }).fill(options.memory);
    }
  }
}
