/** What tests do with the panel, the chip and the API, in the words of a user. */
import { expect, IJupyterLabPageFixture } from '@jupyterlab/galata';
import { Locator } from '@playwright/test';

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

  /** Run the notebook's last cell anew with this code, and return what it printed. */
  async run(code: string): Promise<string> {
    const { notebook } = this.page;
    const cell = (await notebook.getCellCount()) - 1;
    await notebook.setCell(cell, 'code', code);
    await notebook.runCell(cell, true);
    return ((await notebook.getCellTextOutput(cell)) ?? []).join('');
  }

  /** Begin to run the notebook's last cell; do not wait for its end. */
  async begin(code: string): Promise<void> {
    const { notebook } = this.page;
    const cell = (await notebook.getCellCount()) - 1;
    await notebook.setCell(cell, 'code', code);
    await notebook.selectCells(cell);
    await this.page.keyboard.press('Control+Enter');
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

  /** The one kernel there is. */
  async onlyKernel(): Promise<IKernel> {
    const kernels = await this.kernels();
    expect(kernels).toHaveLength(1);
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

  async stopAll(): Promise<void> {
    for (const { kernel_id } of await this.kernels()) {
      await this.page.request.delete(`/elastic/api/kernels/${kernel_id}`);
    }
    await expect.poll(async () => (await this.kernels()).length).toBe(0);
  }

  /** `metadata.elastic` of a notebook, as it is on disk. */
  async savedWish(path: string): Promise<unknown> {
    const response = await this.page.request.get(`/api/contents/${path}?content=1`);
    return (await response.json()).content.metadata.elastic;
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
