/**
 * Changes of size that were asked for here, in place or by another pod: how they stand, and how
 * they end.
 */
import { ISignal, Signal } from '@lumino/signaling';
import { isUnderWay } from './happenings';
import { INoted, Kernels } from './kernels';
import { ElasticProblem, IChangeRequest, IKernel, IResourceWish } from './request';
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
  /** Whether it was to help a kernel that had lost its variables, out of memory. */
  ranOut?: boolean;
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
  constructor(kernels: Kernels) {
    this._kernels = kernels;
    kernels.dropped.connect((_, id) => {
      this._states.delete(id);
    });
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
    const seen = seenResize(this._kernels.get(id));
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
    const restarts = this._kernels.get(id)?.restarts;
    const kernel = await this._change(id, { resources: wish });
    if (restarts !== undefined && restarts !== this._kernels.get(id)?.restarts) {
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

  private async _change(id: string, change: IChangeRequest): Promise<IKernel> {
    const state = {
      wish: change.resources ?? {},
      replaces: change.replace ?? false,
      message: '',
      remedy: '',
      reason: '',
      ranOut: this._kernels.get(id)?.reason === 'OutOfMemory'
    };
    this._set(id, { state: 'applying', ...state });
    try {
      await this._ask(id, change);
      const kernel = await this._ended(id);
      this._set(id, { state: 'done', ...state });
      return kernel;
    } catch (error) {
      const { message, remedy, reason } = ElasticProblem.from(error);
      this._set(id, { ...state, state: 'refused', message, remedy, reason });
      throw error;
    }
  }

  /** Resolves when the server has answered, or, where it does not, its record shows a change. */
  private async _ask(id: string, change: IChangeRequest): Promise<void> {
    const before = this._kernels.get(id);
    try {
      await this._kernels.change(id, change);
    } catch (error) {
      if (!ElasticProblem.from(error).isUnanswered) {
        throw error;
      }
      const now = await this._kernels.read(id).catch(() => null);
      if (!now || !before || !hasTakenUp(before, now)) {
        throw error;
      }
    }
  }

  /** Wait until nothing is in progress at a kernel; rejects when it was refused or has failed. */
  private _ended(id: string): Promise<IKernel> {
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
      const now = this._kernels.get(id);
      if (now && check(now)) {
        return;
      }
      const leave = (): void => {
        this._kernels.noted.disconnect(onNoted);
        this._kernels.dropped.disconnect(onDropped);
      };
      const onNoted = (_: unknown, { kernel }: INoted): void => {
        if (kernel.kernel_id === id && check(kernel)) {
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
      if (!now) {
        onDropped(null, id);
        return;
      }
      this._kernels.noted.connect(onNoted);
      this._kernels.dropped.connect(onDropped);
    });
  }

  private _set(id: string, state: IResizeState): void {
    this._states.set(id, state);
    this._changed.emit();
  }

  private readonly _kernels: Kernels;
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
