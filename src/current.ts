/**
 * The notebook or console that the user is at, and its kernel.
 */
import { JupyterFrontEnd } from '@jupyterlab/application';
import { ISessionContext } from '@jupyterlab/apputils';
import { ConsolePanel, IConsoleTracker } from '@jupyterlab/console';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { Widget } from '@lumino/widgets';
import { IKernel } from './request';

export class CurrentDocument implements IDisposable {
  constructor(options: CurrentDocument.IOptions) {
    this._shell = options.shell;
    this._notebooks = options.notebooks;
    this._consoles = options.consoles;
    this._shell.currentChanged?.connect(this._update, this);
    this._notebooks?.currentChanged.connect(this._update, this);
    this._consoles?.currentChanged.connect(this._update, this);
    this._update();
  }

  /** Another document, or another kernel or kernel state of the same. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** The notebook, if the user is at one. */
  get notebook(): NotebookPanel | null {
    return this._widget instanceof Object && this._notebooks?.has(this._widget)
      ? (this._widget as NotebookPanel)
      : null;
  }

  get sessionContext(): ISessionContext | null {
    return this._context;
  }

  get kernelId(): string | null {
    return this._context?.session?.kernel?.id ?? null;
  }

  /** Display name of the kernel; empty where there is none. */
  get kernelName(): string {
    return this.kernelId ? (this._context?.kernelDisplayName ?? '') : '';
  }

  /** The file's name or the console's title; empty where there is no document. */
  get name(): string {
    return this._widget?.title.label ?? '';
  }

  /** Path of the document; empty where there is none. */
  get path(): string {
    return this._context?.path ?? '';
  }

  /**
   * The current document's kernel with the state that its own connection tells of: it is newer than
   * what the server has last said.
   */
  live(kernel: IKernel | null): IKernel | null {
    const state = this._context?.session?.kernel?.status;
    if (
      kernel?.phase !== 'Running' ||
      kernel.kernel_id !== this.kernelId ||
      (state !== 'idle' && state !== 'busy') ||
      state === kernel.execution_state
    ) {
      return kernel;
    }
    if (this._live?.known !== kernel || this._live.shown.execution_state !== state) {
      const last_activity = Date.now() / 1000;
      this._live = {
        known: kernel,
        shown: { ...kernel, execution_state: state, last_activity }
      };
    }
    // The same object as long as nothing has changed, so that nothing is drawn again.
    return this._live.shown;
  }

  /** Every open notebook and console whose kernel this is. */
  sessionsOf(kernelId: string): ISessionContext[] {
    const contexts: ISessionContext[] = [];
    const add = (context: ISessionContext): void => {
      if (context.session?.kernel?.id === kernelId) {
        contexts.push(context);
      }
    };
    this._notebooks?.forEach(panel => add(panel.sessionContext));
    this._consoles?.forEach(panel => add(panel.sessionContext));
    return contexts;
  }

  /** The same, and those at `path` which have no kernel any more. */
  sessionsFor(kernelId: string, path: string): ISessionContext[] {
    const contexts = this.sessionsOf(kernelId);
    const add = (context: ISessionContext): void => {
      if (path && context.path === path && !context.session?.kernel) {
        contexts.push(context);
      }
    };
    this._notebooks?.forEach(panel => add(panel.sessionContext));
    this._consoles?.forEach(panel => add(panel.sessionContext));
    return contexts;
  }

  /** Every open notebook whose kernel this is. */
  notebooksOf(kernelId: string): NotebookPanel[] {
    return (
      this._notebooks?.filter(
        panel => panel.sessionContext.session?.kernel?.id === kernelId
      ) ?? []
    );
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._setWidget(null, null);
    Signal.disconnectReceiver(this);
    Signal.clearData(this);
  }

  private _update(): void {
    const at = this._shell.currentWidget;
    if (at && this._notebooks?.has(at)) {
      this._setWidget(at, (at as NotebookPanel).sessionContext);
    } else if (at && this._consoles?.has(at)) {
      this._setWidget(at, (at as ConsolePanel).sessionContext);
    } else if (!this._widget || this._widget.isDisposed) {
      // At something else: keep what the user was at, as long as it is open.
      const notebook = this._notebooks?.currentWidget ?? null;
      const last = notebook ?? this._consoles?.currentWidget ?? null;
      this._setWidget(last, last?.sessionContext ?? null);
    }
  }

  private _setWidget(widget: Widget | null, context: ISessionContext | null): void {
    if (widget === this._widget && context === this._context) {
      return;
    }
    if (this._context && !this._context.isDisposed) {
      this._context.kernelChanged.disconnect(this._emit, this);
      this._context.statusChanged.disconnect(this._emit, this);
      this._context.sessionChanged.disconnect(this._emit, this);
    }
    this._widget?.disposed.disconnect(this._onDisposed, this);
    this._widget?.title.changed.disconnect(this._emit, this);
    this._widget = widget;
    this._context = context;
    this._widget?.disposed.connect(this._onDisposed, this);
    this._widget?.title.changed.connect(this._emit, this);
    this._context?.kernelChanged.connect(this._emit, this);
    this._context?.statusChanged.connect(this._emit, this);
    this._context?.sessionChanged.connect(this._emit, this);
    this._emit();
  }

  private _onDisposed(): void {
    this._setWidget(null, null);
    this._update();
  }

  private _emit(): void {
    this._changed.emit();
  }

  private readonly _shell: JupyterFrontEnd.IShell;
  private readonly _notebooks: INotebookTracker | null;
  private readonly _consoles: IConsoleTracker | null;
  private readonly _changed = new Signal<this, void>(this);
  private _widget: Widget | null = null;
  private _context: ISessionContext | null = null;
  private _live: { known: IKernel; shown: IKernel } | null = null;
  private _isDisposed = false;
}

export namespace CurrentDocument {
  export interface IOptions {
    shell: JupyterFrontEnd.IShell;
    notebooks: INotebookTracker | null;
    consoles: IConsoleTracker | null;
  }
}
