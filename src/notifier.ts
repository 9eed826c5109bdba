/**
 * What a user hears of kernels without looking at the panel.
 */
import { Notification } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import { ElasticActions } from './actions';
import { IHappening, isStillSo } from './happenings';
import { ElasticModel } from './model';
import { formatMemory, showMemory } from './quantities';
import { IKernel } from './request';
import { stepText } from './stepText';
import { kernelTitle } from './titles';

/** Lab cuts what is longer. */
const LONGEST = 140;

/** Milliseconds a start may take before it is worth a notification: warm starts are faster. */
const PATIENCE = 1500;

/** Milliseconds without news of a start after which it is explained why that may be. */
const SILENCE = 5000;

/** Milliseconds until a kernel that came back has told why, or never will. */
const RECORDED = 5000;

export class Notifier implements IDisposable {
  constructor(options: Notifier.IOptions) {
    this._model = options.model;
    this._actions = options.actions;
    this._trans = options.trans;
    this._openPanel = options.openPanel;
    this._isTold = options.isTold ?? (() => false);
    this._patience = options.patience ?? PATIENCE;
    this._model.happened.connect(this._onHappened, this);
    this._model.changed.connect(this._onChanged, this);
  }

  /** Whether to show the steps of slow starts. */
  tellStarts = true;

  /** Whether to tell of failures. */
  tellFailures = true;

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._model.happened.disconnect(this._onHappened, this);
    this._model.changed.disconnect(this._onChanged, this);
    this._starts.forEach(start => clearTimeout(start.timer));
    this._starts.clear();
    this._cameBack.forEach(timer => clearTimeout(timer));
    this._cameBack.clear();
  }

  /**
   * Take over to tell of a kernel that was seen to come back with none of its variables: its record
   * will say why, and if it does not, that much is told. Returns whether it is taken over.
   */
  comeBack(id: string): boolean {
    const kernel = this._model.kernel(id);
    if (!kernel || !this.tellFailures) {
      return false;
    }
    if (!this._model.resizeOf(id)?.replaces && !this._cameBack.has(id)) {
      const wait = (): void => {
        this._cameBack.delete(id);
        const now = this._model.kernel(id);
        if (now && !this._notices.has(id)) {
          this._fail(
            now,
            this._trans.__('The kernel came back; its variables are lost.')
          );
        }
      };
      this._cameBack.set(id, setTimeout(wait, RECORDED));
    }
    return true;
  }

  private _onHappened(_: ElasticModel, happening: IHappening): void {
    const { kind, kernel } = happening;
    switch (kind) {
      case 'starting':
        if (this.tellStarts) {
          this._await(kernel.kernel_id);
        }
        break;
      case 'running':
        this._settle(kernel.kernel_id);
        break;
      case 'start-failed':
        this._settle(kernel.kernel_id);
        if (this._isTold(kernel.kernel_id)) {
          break;
        }
        this._fail(kernel, this._trans.__('The kernel did not start.'));
        break;
      case 'failed':
        this._fail(kernel, this._trans.__('The kernel ended.'));
        break;
      case 'out-of-memory':
        this._fail(kernel, this._trans.__('The kernel ran out of memory.'));
        break;
      case 'came-back':
        this._fail(
          kernel,
          this._trans.__('The kernel came back; its variables are lost.')
        );
        break;
      case 'ended':
        this._end(kernel);
    }
  }

  /** Bring the notifications up to date: those of slow starts, and those no longer true. */
  private _onChanged(): void {
    for (const [id, { told, notification }] of this._notices) {
      if (!isStillSo(told, this._model.kernel(id))) {
        this._notices.delete(id);
        Notification.dismiss(notification);
      }
    }
    for (const [id, start] of this._starts) {
      const kernel = this._model.kernel(id);
      if (!kernel) {
        this._settle(id);
      } else if (start.notification) {
        const heard = this._model.startOf(id)?.steps.length ?? 0;
        if (heard !== start.heard) {
          start.heard = heard;
          this._awaitNews(id);
        }
        const message = this._startText(kernel);
        if (message !== start.message) {
          start.message = message;
          Notification.update({
            id: start.notification,
            message,
            type: this._model.startOf(id)?.obstacle ? 'warning' : 'in-progress'
          });
        }
      }
    }
  }

  private _await(id: string): void {
    if (this._starts.has(id)) {
      return;
    }
    const timer = setTimeout(() => {
      const start = this._starts.get(id);
      const kernel = this._model.kernel(id);
      if (start && kernel) {
        start.heard = this._model.startOf(id)?.steps.length ?? 0;
        start.message = this._startText(kernel);
        this._awaitNews(id);
        const type = this._model.startOf(id)?.obstacle ? 'warning' : 'in-progress';
        start.notification = Notification.emit(start.message, type, {
          autoClose: false,
          actions: [
            {
              label: this._trans.__('Cancel start'),
              callback: () => this._do(this._actions.stop(id, false))
            }
          ]
        });
      }
    }, this._patience);
    this._starts.set(id, {
      timer,
      notification: null,
      message: '',
      heard: 0,
      isSilent: false
    });
  }

  /** After a while without news, say why that may be. */
  private _awaitNews(id: string): void {
    const start = this._starts.get(id);
    if (start) {
      clearTimeout(start.timer);
      start.isSilent = false;
      start.timer = setTimeout(() => {
        start.isSilent = true;
        this._onChanged();
      }, SILENCE);
    }
  }

  /** A start has ended, one way or another. */
  private _settle(id: string): void {
    const start = this._starts.get(id);
    if (start) {
      clearTimeout(start.timer);
      this._starts.delete(id);
      if (start.notification) {
        Notification.dismiss(start.notification);
      }
    }
  }

  private _startText(kernel: IKernel): string {
    const trans = this._trans;
    const title = kernelTitle(kernel);
    const start = this._model.startOf(kernel.kernel_id);
    if (start?.obstacle) {
      const head = trans.__('"%1" waits', title);
      return toastText(head, stepText(start.obstacle, trans));
    }
    const last = start?.steps[start.steps.length - 1];
    if (this._starts.get(kernel.kernel_id)?.isSilent) {
      const head = trans.__('"%1" still starts', title);
      return toastText(head, silenceText(last?.name ?? '', trans));
    }
    return last
      ? trans.__('Starting "%1": %2', title, stepText(last, trans))
      : trans.__('Starting "%1"…', title);
  }

  private _fail(kernel: IKernel, fallback: string): void {
    if (!this.tellFailures) {
      return;
    }
    const trans = this._trans;
    const actions: Notification.IAction[] = [];
    const isOver = kernel.phase === 'Failed';
    const more = kernel.reason === 'OutOfMemory' ? this._actions.moreFor(kernel) : null;
    if (more !== null) {
      actions.push({
        label: isOver
          ? trans.__('Start with %1', showMemory(more))
          : trans.__('Raise to %1', showMemory(more)),
        displayType: 'accent',
        callback: () => this._do(this._raise(kernel, more))
      });
    }
    if (kernel.reason === 'OutOfMemory' && !isOver) {
      actions.push({
        label: trans.__('Other size'),
        callback: () => this._openPanel('kernel')
      });
    }
    if (isOver) {
      if (more === null) {
        actions.push({
          label: trans.__('Start again'),
          displayType: 'accent',
          callback: () => this._do(this._actions.startAgain(kernel))
        });
      }
      actions.push({
        label: trans.__('Start a new one'),
        callback: () => this._openPanel('start')
      });
    }
    // A kernel that runs again needs no restart: that would only lose variables.
    const notification = Notification.error(
      toastText(kernelTitle(kernel), kernel.message || fallback),
      { autoClose: false, actions }
    );
    this._notices.set(kernel.kernel_id, { told: kernel, notification });
    // Told once is enough, also when it is soon no longer true.
    clearTimeout(this._cameBack.get(kernel.kernel_id));
    this._cameBack.delete(kernel.kernel_id);
  }

  /** The template's idle policy has ended a kernel. */
  private _end(kernel: IKernel): void {
    if (!this.tellFailures) {
      return;
    }
    const trans = this._trans;
    const fallback = trans.__('The kernel was ended because it was idle.');
    Notification.warning(toastText(kernelTitle(kernel), kernel.message || fallback), {
      autoClose: false,
      actions: [
        {
          label: trans.__('Start again'),
          displayType: 'accent',
          callback: () => this._do(this._actions.startAgain(kernel))
        }
      ]
    });
  }

  /** More memory for a kernel that ran out of it; it has lost its variables already. */
  private async _raise(kernel: IKernel, bytes: number): Promise<void> {
    const trans = this._trans;
    const memory = formatMemory(bytes);
    if (kernel.phase === 'Failed') {
      await this._actions.startAgain(kernel, { memory });
    } else if (!(await this._actions.resizeOrMove(kernel.kernel_id, { memory }))) {
      return;
    }
    Notification.success(
      toastText(
        kernelTitle(kernel),
        trans.__('It has %1 now. Run the cells again.', showMemory(bytes))
      ),
      { autoClose: 5000 }
    );
  }

  private _do(work: Promise<unknown>): void {
    work.catch(error =>
      this._actions.showProblem(this._trans.__('Elastic kernels'), error)
    );
  }

  private readonly _model: ElasticModel;
  private readonly _actions: ElasticActions;
  private readonly _trans: TranslationBundle;
  private readonly _openPanel: (section: 'kernel' | 'start') => void;
  private readonly _isTold: (id: string) => boolean;
  private readonly _patience: number;
  private readonly _starts = new Map<
    string,
    {
      timer: ReturnType<typeof setTimeout>;
      notification: string | null;
      message: string;
      /** How many steps have been told of. */
      heard: number;
      isSilent: boolean;
    }
  >();
  /** Of kernels by id, what was told last that may cease to be true. */
  private readonly _notices = new Map<
    string,
    { told: IKernel; notification: string }
  >();
  /** Kernels that were seen to come back, until their record says why. */
  private readonly _cameBack = new Map<string, ReturnType<typeof setTimeout>>();
  private _isDisposed = false;
}

/** Why nothing may be heard of a start after a step. */
export function silenceText(step: string, trans: TranslationBundle): string {
  switch (step) {
    case '':
    case 'queued':
      return trans.__('Others may be before it. You can wait, or cancel.');
    case 'image-pulling':
    case 'scheduled':
      return trans.__('Its image comes to the node, which may take minutes at first.');
    case 'node-coming':
      return trans.__('A node is being added, which takes minutes.');
    case 'started':
    case 'created':
      return trans.__('Its agent and imports are being loaded.');
    default:
      return trans.__('There is no news for some seconds. You can wait, or cancel.');
  }
}

/**
 * Title and as many sentences as fit a notification uncut; the panel has them all. A title or a
 * first sentence that is too long itself is shortened in the middle.
 */
export function toastText(title: string, message: string): string {
  const head = `${shorten(title, 40)}: `;
  const sentences = message.split(/(?<=[.!?])\s+/);
  let text = head + shorten(sentences[0], LONGEST - head.length);
  for (const sentence of sentences.slice(1)) {
    if (text.length + 1 + sentence.length > LONGEST) {
      break;
    }
    text += ` ${sentence}`;
  }
  return text;
}

function shorten(text: string, length: number): string {
  if (text.length <= length) {
    return text;
  }
  const tail = Math.floor((length - 1) / 2);
  return `${text.slice(0, length - 1 - tail)}…${text.slice(text.length - tail)}`;
}

export namespace Notifier {
  export interface IOptions {
    model: ElasticModel;
    actions: ElasticActions;
    trans: TranslationBundle;
    openPanel: (section: 'kernel' | 'start') => void;
    /** Whether the user sees already, elsewhere, how the start of a kernel goes. */
    isTold?: (id: string) => boolean;
    /** Milliseconds before a start is told of. */
    patience?: number;
  }
}
