/**
 * Changes of size that were asked for here, in place or by another pod: how they stand, and how
 * they end.
 */
import { ISignal, Signal } from '@lumino/signaling';
import { isUnderWay } from './happenings';
import {
  ElasticProblem,
  IChangeRequest,
  IElasticApi,
  IKernel,
  IResourceWish
} from './request';
import { sameValue, toValue } from './resources';

/** How a resize stands; a refusal has the server's sentence and, where it gives one, a remedy. */
export interface IResizeState {
  state: 'applying' | 'done' | 'refused';
  /** What was asked for. */
  wish: IResourceWish;
  /** Whether by another pod, which has none of the variables. */
  replaces: boolean;
  /** While it is applied, what it waits for, if anything. */
  message: string;
  remedy: string;
  reason: string;
}

/** Refusals of sizes that another pod can have. */
const MOVABLE: readonly string[] = ['ResizeUnsupported', 'NoNodeFits'];

/** Whether another pod can have the size that was refused for this reason. */
export function isMovable(reason: string): boolean {
  return MOVABLE.includes(reason);
}

/**
 * A resize that was not asked for here, as far as the kernel's record tells: one in progress, or
 * one that was refused and left the kernel with less than it should have.
 */
export function seenResize(kernel: IKernel | null): IResizeState | null {
  const seen = kernel?.resize;
  if (!kernel || !seen) {
    return null;
  }
  const state = {
    wish: kernel.resources,
    replaces: false,
    message: seen.message ?? '',
    remedy: '',
    reason: seen.reason ?? ''
  };
  if (seen.state === 'InProgress') {
    return { state: 'applying', ...state };
  }
  return seen.state === 'Refused' && hasLess(kernel)
    ? { state: 'refused', ...state }
    : null;
}

/** Whether a running kernel does not have what its record says that it should have. */
export function hasLess(kernel: IKernel): boolean {
  const { actual, resources, phase } = kernel;
  return (
    phase === 'Running' && !!actual && !sameValue(toValue(actual), toValue(resources))
  );
}

export class Resizes {
  constructor(options: Resizes.IOptions) {
    this._api = options.api;
    this._kernel = options.kernel;
    this._note = options.note;
    this._noted = options.noted;
    this._dropped = options.dropped;
  }

  /** Something that `of` returns has changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Whether an answer is waited for. */
  get isApplying(): boolean {
    return [...this._states.values()].some(one => one.state === 'applying');
  }

  /** How a resize stands: one asked for here, or one seen. */
  of(id: string): IResizeState | null {
    const mine = this._states.get(id);
    const seen = seenResize(this._kernel(id));
    if (mine?.state === 'applying' && seen?.state === 'applying') {
      // Only the record says what it waits for; the answer comes when all is over.
      return { ...mine, message: seen.message };
    }
    return mine ?? seen;
  }

  /** Forget the outcome of the last resize, because it is no longer news. */
  clear(id: string): void {
    if (this._states.get(id)?.state !== 'applying' && this._states.delete(id)) {
      this._changed.emit();
    }
  }

  /**
   * Resize a running kernel in place. Resolves with the kernel when it has the size.
   *
   * Rejects with an `ElasticProblem` when it is refused; `of` says the same.
   */
  async resize(id: string, wish: IResourceWish): Promise<IKernel> {
    const restarts = this._kernel(id)?.restarts;
    const kernel = await this._change(id, { resources: wish });
    if (restarts !== undefined && restarts !== this._kernel(id)?.restarts) {
      // It lost its variables meanwhile: that is the news.
      this.clear(id);
    }
    return kernel;
  }

  /**
   * Give a kernel another pod of that size. Its variables are lost: ask first. Resolves with the
   * kernel when it runs again; rejects as `resize` does.
   */
  replace(id: string, wish: IResourceWish): Promise<IKernel> {
    return this._change(id, { resources: wish, replace: true });
  }

  /** A kernel has gone. */
  forget(id: string): void {
    this._states.delete(id);
  }

  private async _change(id: string, change: IChangeRequest): Promise<IKernel> {
    const state = {
      wish: change.resources ?? {},
      replaces: change.replace ?? false,
      message: '',
      remedy: '',
      reason: ''
    };
    this._set(id, { state: 'applying', ...state });
    try {
      const asked = await this._ask(id, change);
      this._note(asked);
      const kernel = await this._ended(asked);
      this._set(id, { state: 'done', ...state });
      return kernel;
    } catch (error) {
      const { message, remedy, reason } = ElasticProblem.from(error);
      this._set(id, { ...state, state: 'refused', message, remedy, reason });
      throw error;
    }
  }

  /** The kernel as the server answers, or, where it does not, as its record has it. */
  private async _ask(id: string, change: IChangeRequest): Promise<IKernel> {
    const before = this._kernel(id);
    try {
      return await this._api.change(id, change);
    } catch (error) {
      if (!ElasticProblem.from(error).isUnanswered) {
        throw error;
      }
      const now = await this._api.kernel(id).catch(() => null);
      if (!now || !before || !hasTakenUp(before, now)) {
        throw error;
      }
      return now;
    }
  }

  /** Wait until nothing is in progress at a kernel; rejects when it was refused or has failed. */
  private _ended(kernel: IKernel): Promise<IKernel> {
    const id = kernel.kernel_id;
    return new Promise((resolve, reject) => {
      const check = (now: IKernel): boolean => {
        const end = endOf(now);
        if (end instanceof ElasticProblem) {
          reject(end);
        } else if (end) {
          resolve(end);
        }
        return end !== null;
      };
      if (check(kernel)) {
        return;
      }
      const leave = (): void => {
        this._noted.disconnect(onNoted);
        this._dropped.disconnect(onDropped);
      };
      const onNoted = (_: unknown, now: IKernel): void => {
        if (now.kernel_id === id && check(now)) {
          leave();
        }
      };
      const onDropped = (_: unknown, dropped: string): void => {
        if (dropped === id) {
          leave();
          reject(
            new ElasticProblem({
              reason: 'Gone',
              message: 'The kernel ended while it was resized.',
              remedy: 'Start a new kernel.'
            })
          );
        }
      };
      this._noted.connect(onNoted);
      this._dropped.connect(onDropped);
    });
  }

  private _set(id: string, state: IResizeState): void {
    this._states.set(id, state);
    this._changed.emit();
  }

  private readonly _api: IElasticApi;
  private readonly _kernel: (id: string) => IKernel | null;
  private readonly _note: (kernel: IKernel) => void;
  private readonly _noted: ISignal<unknown, IKernel>;
  private readonly _dropped: ISignal<unknown, string>;
  private readonly _states = new Map<string, IResizeState>();
  private readonly _changed = new Signal<this, void>(this);
}

/** Whether the record shows that a server has begun with what was asked of it. */
function hasTakenUp(before: IKernel, now: IKernel): boolean {
  return (
    before.phase !== now.phase ||
    before.restarts !== now.restarts ||
    (now.resize?.time !== undefined && now.resize.time !== before.resize?.time)
  );
}

/** A kernel at which nothing is in progress, or how that failed; null as long as something is. */
function endOf(kernel: IKernel): IKernel | ElasticProblem | null {
  if (kernel.phase === 'Failed' || kernel.phase === 'Stopped') {
    return new ElasticProblem({
      reason: kernel.reason || kernel.phase,
      message: kernel.message || 'The kernel ended.'
    });
  }
  if (isUnderWay(kernel) || kernel.resize?.state === 'InProgress') {
    return null;
  }
  if (kernel.resize?.state === 'Refused') {
    const { reason, message } = kernel.resize;
    return new ElasticProblem({ reason: reason || 'Refused', message: message ?? '' });
  }
  return kernel;
}

export namespace Resizes {
  export interface IOptions {
    api: IElasticApi;
    /** A kernel as last seen. */
    kernel: (id: string) => IKernel | null;
    /** Take over a kernel that a server has answered with. */
    note: (kernel: IKernel) => void;
    /** A kernel as it is now. */
    noted: ISignal<unknown, IKernel>;
    /** The id of a kernel that has gone. */
    dropped: ISignal<unknown, string>;
  }
}
