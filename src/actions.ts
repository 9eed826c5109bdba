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
import { ServiceManager } from '@jupyterlab/services';
import {
  ITranslator,
  nullTranslator,
  TranslationBundle
} from '@jupyterlab/translation';
import { CommandRegistry } from '@lumino/commands';
import * as React from 'react';
import { MoveQuestion } from './components/moveQuestion';
import { CurrentDocument } from './current';
import { raisedMemory } from './fitting';
import { keepResources, metadataOf } from './metadata';
import { ElasticModel } from './model';
import { ElasticProblem, IKernel, IResourceWish, IStartRequest } from './request';
import { isMovable } from './resize';
import { showResources } from './resources';
import { KernelStart } from './start';
import { kernelTitle, notebookOf, sessionPath } from './titles';
import { METADATA_KEY } from './tokens';

export class ElasticActions {
  constructor(options: ElasticActions.IOptions) {
    this._model = options.model;
    this._current = options.current;
    this._commands = options.commands;
    this._serviceManager = options.serviceManager;
    this._defaultPath = options.defaultPath ?? (() => '');
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
   * Resolves when the start is accepted; `attached` of the result when all is done. With `isNew`
   * it is always a new notebook.
   */
  async start(
    request: IStartRequest,
    isNew = false
  ): Promise<{ start: KernelStart; attached: Promise<void> }> {
    const context = isNew ? null : this._current.sessionContext;
    const notebook = isNew ? null : this._current.notebook;
    const path = request.path ?? (context ? context.path : this._defaultPath());
    const start = await this._model.start({ ...request, path });
    const attach = async (): Promise<void> => {
      const kernel = await start.running;
      if (context && !context.isDisposed) {
        // First the wish, so that a save at any moment finds it.
        if (notebook?.model) {
          keepResources(notebook.model, kernel);
        }
        await context.changeKernel({ id: kernel.kernel_id });
      } else if (!context) {
        await this._openNew(kernel, path);
      }
    };
    return { start, attached: attach() };
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
    const hasConsent = await this._askToMove(kernel, wish, refusal).finally(() => {
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
    if (ask && loses) {
      const trans = this._trans;
      const { button } = await showDialog({
        title: trans.__('Stop the kernel?'),
        body: trans.__(
          'The variables of "%1" are lost; the notebook stays.',
          kernelTitle(kernel)
        ),
        buttons: [
          Dialog.cancelButton(),
          Dialog.warnButton({
            label: trans.__('Stop'),
            ariaLabel: trans.__('Stop the kernel')
          })
        ]
      });
      if (!button.accept) {
        return false;
      }
    }
    await this._end(id);
    return true;
  }

  /**
   * End several kernels, after asking once. Those that could be ended are, whatever happens to
   * the others; rejects with the first failure. Resolves with whether there was consent.
   */
  async stopMany(ids: readonly string[]): Promise<boolean> {
    const trans = this._trans;
    const kernels = ids
      .map(id => this._model.kernel(id))
      .filter((one): one is IKernel => one !== null);
    if (!kernels.length) {
      return false;
    }
    const { button } = await showDialog({
      title: trans._n('Stop %1 kernel?', 'Stop %1 kernels?', kernels.length),
      body: trans.__(
        'The variables of %1 are lost; notebooks stay.',
        shortList(kernels.map(kernelTitle), trans)
      ),
      buttons: [
        Dialog.cancelButton(),
        Dialog.warnButton({
          label: trans.__('Stop'),
          ariaLabel: trans._n(
            'Stop %1 kernel; its variables are lost',
            'Stop %1 kernels; their variables are lost',
            kernels.length
          )
        })
      ],
      defaultButton: 0
    });
    if (!button.accept) {
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

  /** Let the current notebook or console use a kernel that runs already. */
  async attach(kernel: IKernel): Promise<void> {
    const context = this._current.sessionContext;
    if (!context) {
      await this.open(kernel);
      return;
    }
    const notebook = this._current.notebook;
    if (notebook?.model) {
      keepResources(notebook.model, kernel);
    }
    await context.changeKernel({ id: kernel.kernel_id });
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

  private async _askToMove(
    kernel: IKernel,
    wish: IResourceWish,
    refusal: string
  ): Promise<boolean> {
    const trans = this._trans;
    const { button } = await showDialog({
      title: trans.__('Move the kernel to another pod?'),
      body: React.createElement(MoveQuestion, {
        title: kernelTitle(kernel),
        size: showResources({ ...kernel.resources, ...wish }),
        isBusy: kernel.execution_state === 'busy',
        refusal,
        trans
      }),
      buttons: [
        Dialog.cancelButton(),
        Dialog.warnButton({
          label: trans.__('Move'),
          ariaLabel: trans.__('Move the kernel; its variables are lost')
        })
      ],
      // Enter, pressed once too often at Apply, must not lose anything.
      defaultButton: 0
    });
    return button.accept;
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
  /** A second press of the button, before the dialog has the focus, is no second question. */
  private _askedToMove = false;
}

/** The first few, and how many more there are. */
function shortList(titles: readonly string[], trans: TranslationBundle): string {
  const named = titles.slice(0, 3).map(title => `"${title}"`);
  const more = titles.length - named.length;
  return more
    ? trans._n('%2 and %1 more', '%2 and %1 more', more, named.join(', '))
    : named.join(', ');
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
  }
}
