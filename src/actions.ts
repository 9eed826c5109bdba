/**
 * What a user can do to kernels from panel, chip, notifications and commands: the model's verbs
 * joined with notebooks, dialogs and metadata. Written once, for all of them.
 */
import {
  Dialog,
  ISessionContext,
  ISessionContextDialogs,
  SessionContextDialogs,
  showDialog
} from '@jupyterlab/apputils';
import { Kernel, ServiceManager } from '@jupyterlab/services';
import {
  ITranslator,
  nullTranslator,
  TranslationBundle
} from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import { CurrentDocument } from './current';
import { raisedMemory } from './fitting';
import { keepResources, metadataOf } from './metadata';
import { ElasticModel } from './model';
import { askToLeave, askToMove, askToStop, askToStopMany } from './questions';
import { Ran } from './ran';
import { ElasticProblem, IKernel, IResourceWish, IStartRequest } from './request';
import { isMovable } from './resize';
import { KernelStart } from './start';
import { notebookOf, sessionPath } from './titles';
import { METADATA_KEY } from './tokens';

export class ElasticActions {
  constructor(options: ElasticActions.IOptions) {
    this._model = options.model;
    this._current = options.current;
    this._commands = options.commands;
    this._serviceManager = options.serviceManager;
    this._defaultPath = options.defaultPath ?? (() => '');
    this._ran = options.ran ?? null;
    const translator = options.translator ?? nullTranslator;
    this._trans = translator.load('jupyter_elastic');
    this._dialogs = options.dialogs ?? new SessionContextDialogs({ translator });
  }

  /** What shows the user how starts go, if anything does. */
  startView: { showsStart: (id: string) => boolean } | null = null;

  /**
   * Start a kernel and, once it runs, attach the current notebook or console to it; where none
   * is open, a new notebook. Until then the old kernel stays, and it does if the start fails.
   *
   * Resolves when the start is accepted; `attached` of the result when all is done. Resolves with
   * null where the user would rather keep the old kernel.
   */
  async start(
    request: IStartRequest,
    options: IStartOptions = {}
  ): Promise<{ start: KernelStart; attached: Promise<void> } | null> {
    const { isNew, hasConsent } = options;
    const context = isNew ? null : this._current.sessionContext;
    const notebook = isNew ? null : this._current.notebook;
    const path = request.path ?? (context ? context.path : this._defaultPath());
    const name = this._current.name;
    const isKnown = hasConsent || this._workOf(context) !== null;
    if (!hasConsent && !(await this._askToLeave(context, name))) {
      return null;
    }
    const start = await this._model.start({ ...request, path });
    const attach = async (): Promise<void> => {
      const kernel = await start.running;
      if (context && !context.isDisposed) {
        // What was run while the other started has been asked about by nobody.
        if (!isKnown && !(await this._askToLeave(context, name, kernel))) {
          return;
        }
        await this._use(context, notebook, kernel);
      } else if (!context) {
        await this._openNew(kernel, path);
      }
    };
    return { start, attached: attach() };
  }

  /** Whether the current document's kernel has run something, which a start for it would lose. */
  get wouldLose(): boolean {
    return this._workOf(this._current.sessionContext) !== null;
  }

  /** Resize, and keep the new resources in the notebooks that are open on the kernel. */
  async resize(id: string, wish: IResourceWish): Promise<IKernel> {
    const kernel = await this._model.resize(id, wish);
    this._keepResources(kernel);
    return kernel;
  }

  /**
   * Give a kernel another pod of that size, after asking, because its variables are lost; keep
   * the new resources as `resize` does. `refusal` says why it cannot have them where it is.
   *
   * Resolves with whether it was done.
   */
  async replace(id: string, wish: IResourceWish, refusal = ''): Promise<boolean> {
    const kernel = this._model.kernel(id);
    if (!kernel || this._askedToMove) {
      return false;
    }
    this._askedToMove = true;
    const asked = askToMove(kernel, wish, refusal, this._trans);
    const hasConsent = await asked.finally(() => {
      this._askedToMove = false;
    });
    if (!hasConsent) {
      return false;
    }
    this._keepResources(await this._model.replace(id, wish));
    return true;
  }

  /**
   * Resize, and where only another pod can have the size, ask whether to move. Resolves with
   * whether it was done.
   */
  async resizeOrMove(id: string, wish: IResourceWish): Promise<boolean> {
    try {
      await this.resize(id, wish);
      return true;
    } catch (error) {
      const { reason, message } = ElasticProblem.from(error);
      if (!isMovable(reason)) {
        throw error;
      }
      return this.replace(id, wish, message);
    }
  }

  /** Bytes of memory to offer to a kernel that ran out of it; null where no more can be had. */
  moreFor(kernel: IKernel): number | null {
    const template = this._model.template(kernel.template);
    return template
      ? raisedMemory(kernel.resources, template.resources, this._model.capacity)
      : null;
  }

  /**
   * Start anew what has ended, with the same resources unless `wish` has others, for the notebooks
   * and consoles that were on it; where none is open, its notebook is opened.
   */
  async startAgain(kernel: IKernel, wish: IResourceWish = {}): Promise<void> {
    const { template, name, path } = kernel;
    const resources = { ...kernel.resources, ...wish };
    const contexts = this._current.sessionsFor(kernel.kernel_id, notebookOf(kernel));
    const notebooks = this._current.notebooksOf(kernel.kernel_id);
    const start = await this._model.start({ template, name, path, resources });
    const running = await start.running;
    for (const notebook of notebooks) {
      if (notebook.model) {
        keepResources(notebook.model, running);
      }
    }
    for (const context of contexts) {
      await context.changeKernel({ id: running.kernel_id });
    }
    if (!contexts.length && notebookOf(kernel)) {
      await this._commands.execute('docmanager:open', {
        path: notebookOf(kernel),
        kernel: { id: running.kernel_id }
      });
    }
    // What is left of the old one is its record.
    await this._model.ensureStopped(kernel.kernel_id);
  }

  /** Restart in Jupyter's own way, which asks first. */
  async restart(id: string): Promise<void> {
    const context = this._sessionOf(id);
    if (context) {
      await this._dialogs.restart(context);
    }
  }

  /**
   * End a kernel, after asking, or cancel its start. Resolves with whether it was ended.
   */
  async stop(id: string, ask = true): Promise<boolean> {
    const kernel = this._model.kernel(id);
    const loses = kernel?.phase === 'Running' || kernel?.phase === 'Moving';
    if (ask && loses && !(await askToStop(kernel, this._trans))) {
      return false;
    }
    await this._end(id);
    return true;
  }

  /**
   * End several kernels, after asking once. Those that could be ended are, whatever happens to
   * the others; rejects with the first failure. Resolves with whether there was consent.
   */
  async stopMany(ids: readonly string[]): Promise<boolean> {
    const kernels = ids
      .map(id => this._model.kernel(id))
      .filter((one): one is IKernel => one !== null);
    if (!kernels.length || !(await askToStopMany(kernels, this._trans))) {
      return false;
    }
    const ends = await Promise.allSettled(kernels.map(one => this._end(one.kernel_id)));
    const failure = ends.find(one => one.status === 'rejected');
    if (failure) {
      throw (failure as PromiseRejectedResult).reason;
    }
    return true;
  }

  /** Show the notebook that uses a kernel; where none does, a new one. */
  async open(kernel: IKernel): Promise<void> {
    const path = sessionPath(kernel);
    if (path) {
      await this._commands.execute('docmanager:open', { path });
      return;
    }
    await this._openNew(kernel, this._defaultPath());
  }

  /**
   * Let the current notebook or console use a kernel that runs already, after asking where its old
   * one has run something.
   */
  async attach(kernel: IKernel): Promise<void> {
    const context = this._current.sessionContext;
    const { notebook, name } = this._current;
    if (!context) {
      await this.open(kernel);
    } else if (context.session?.kernel?.id === kernel.kernel_id) {
      return;
    } else if (await this._askToLeave(context, name)) {
      await this._use(context, notebook, kernel);
    }
  }

  /** Whether something is open that can be restarted on this kernel. */
  canRestart(id: string): boolean {
    return this._sessionOf(id) !== null;
  }

  /** Tell of a failure where there is no better place than a dialog. */
  async showProblem(title: string, error: unknown): Promise<void> {
    const problem = ElasticProblem.from(error);
    await showDialog({
      title,
      body: problem.text,
      buttons: [Dialog.okButton({ label: this._trans.__('Dismiss') })]
    });
  }

  /** Let something go on, and tell of its failure if it fails. */
  attempt(failure: string, work: Promise<unknown>): void {
    work.catch(error => this.showProblem(failure, error));
  }

  private async _end(id: string): Promise<void> {
    // Through Jupyter where a document is open, so that it shows "No Kernel" and not a dead one.
    const contexts = this._current.sessionsOf(id);
    for (const context of contexts) {
      await context.shutdown();
    }
    if (contexts.length) {
      // Jupyter has ended the kernel with its session; to end it again would be refused.
      await this._model.ensureStopped(id);
    } else {
      await this._model.stop(id);
    }
  }

  private async _use(
    context: ISessionContext,
    notebook: CurrentDocument['notebook'],
    kernel: IKernel
  ): Promise<void> {
    // First the wish, so that a save at any moment finds it.
    if (notebook?.model) {
      keepResources(notebook.model, kernel);
    }
    await context.changeKernel({ id: kernel.kernel_id });
  }

  /** The document's kernel if its end would lose something. */
  private _workOf(context: ISessionContext | null): Kernel.IKernelConnection | null {
    const kernel = context?.session?.kernel;
    return kernel && this._ran?.hasWork(kernel) ? kernel : null;
  }

  /**
   * Whether a document may leave its kernel, which is asked only where something would be lost;
   * `ready` is the other one, if it runs already.
   */
  private async _askToLeave(
    context: ISessionContext | null,
    name: string,
    ready: IKernel | null = null
  ): Promise<boolean> {
    const kernel = this._workOf(context);
    const reason = ready
      ? this._trans.__(
          'The new kernel is there. Without it, it stays under My kernels.'
        )
      : '';
    return (
      kernel === null || askToLeave(name, kernel.status === 'busy', reason, this._trans)
    );
  }

  /** Let the notebooks that are open on a kernel say what it has. */
  private _keepResources(kernel: IKernel): void {
    for (const notebook of this._current.notebooksOf(kernel.kernel_id)) {
      if (notebook.model) {
        keepResources(notebook.model, kernel);
      }
    }
  }

  private _sessionOf(id: string): ISessionContext | null {
    return this._current.sessionsOf(id)[0] ?? null;
  }

  /**
   * A new notebook on a kernel that runs already. Its session is made first, so that opening the
   * notebook finds it and starts no other kernel: this way works in Lab and in Notebook alike.
   */
  private async _openNew(kernel: IKernel, folder: string): Promise<void> {
    const { contents, sessions } = this._serviceManager;
    const file = await contents.newUntitled({ path: folder, type: 'notebook' });
    const model = await contents.get(file.path, { content: true });
    model.content.metadata[METADATA_KEY] = metadataOf(kernel);
    await contents.save(file.path, {
      type: 'notebook',
      format: 'json',
      content: model.content
    });
    const session = await sessions.startNew(
      {
        path: file.path,
        name: file.name,
        type: 'notebook',
        // The server takes the id; the declared type only knows of names.
        kernel: { id: kernel.kernel_id, name: kernel.template } as { name: string }
      },
      { kernelConnectionOptions: { handleComms: false } }
    );
    session.dispose();
    await this._commands.execute('docmanager:open', { path: file.path });
  }

  private readonly _model: ElasticModel;
  private readonly _current: CurrentDocument;
  private readonly _commands: CommandRegistry;
  private readonly _serviceManager: ServiceManager.IManager;
  private readonly _dialogs: ISessionContext.IDialogs;
  private readonly _trans: TranslationBundle;
  private readonly _defaultPath: () => string;
  private readonly _ran: Ran | null;
  /** A second press of the button, before the dialog has the focus, is no second question. */
  private _askedToMove = false;
}

export interface IStartOptions {
  /** For a new notebook in any case. */
  isNew?: boolean;
  /** Whether the user knows already that the variables of the old kernel are lost. */
  hasConsent?: boolean;
}

export namespace ElasticActions {
  export interface IOptions {
    model: ElasticModel;
    current: CurrentDocument;
    commands: CommandRegistry;
    serviceManager: ServiceManager.IManager;
    dialogs?: ISessionContextDialogs | null;
    translator?: ITranslator;
    /** The folder for new notebooks. */
    defaultPath?: () => string;
    /** What knows of which kernels something would be lost; without it nothing is asked. */
    ran?: Ran;
  }
}
