/**
 * One kernel on its way to Running: its dated steps, and how it ended.
 */
import { PromiseDelegate } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';
import { ElasticProblem, IElasticApi, IKernel, IStep, KernelPhase } from './request';

/** Name of the steps that say what is in the way. */
export const BLOCKED = 'blocked';

export class KernelStart implements IDisposable {
  constructor(options: KernelStart.IOptions) {
    this._api = options.api;
    this._read = options.read ?? (id => this._api.kernel(id));
    this.kernel = options.kernel;
    this._phase = options.kernel.phase;
    // A failure that nobody waits for is not an unhandled one: the model and its views show it.
    this._running.promise.catch(() => undefined);
    this._poll = new Poll({
      name: `jupyter_elastic:start:${options.kernel.kernel_id}`,
      factory: () => this.refresh(),
      frequency: { interval: options.interval ?? 700, backoff: true, max: 10000 },
      standby: 'when-hidden'
    });
  }

  /** The kernel as it was when the start was accepted. */
  readonly kernel: IKernel;

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get steps(): readonly IStep[] {
    return this._steps;
  }

  /** What the start waits for now; null as long as it goes on. */
  get obstacle(): IStep | null {
    const last = this._steps[this._steps.length - 1];
    return !this._isDone && last?.name === BLOCKED ? last : null;
  }

  get phase(): KernelPhase {
    return this._phase;
  }

  /** Why the start failed; null as long as it did not. */
  get problem(): ElasticProblem | null {
    return this._problem;
  }

  get isDone(): boolean {
    return this._isDone;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  /** Resolves with the running kernel; rejects with an `ElasticProblem`. */
  get running(): Promise<IKernel> {
    return this._running.promise;
  }

  /** Read the steps now. Rejects when the server could not be asked (the poll backs off). */
  async refresh(): Promise<void> {
    const id = this.kernel.kernel_id;
    if (this._isDone || this.isDisposed) {
      return;
    }
    const begun = ++this._lastBegun;
    try {
      const progress = await this._api.progress(id);
      if (this._isDone || begun < this._known) {
        return;
      }
      this._known = begun;
      this._steps = progress.steps;
      this._phase = progress.phase;
      if (!progress.done) {
        this._changed.emit();
        return;
      }
      const kernel = await this._read(id);
      if (progress.phase === 'Failed' || progress.phase === 'Stopped') {
        this._fail(
          new ElasticProblem({
            reason: progress.reason || kernel.reason || 'StartFailed',
            message: progress.message || kernel.message || 'The kernel did not start.'
          })
        );
      } else {
        this._end();
        this._running.resolve(kernel);
      }
    } catch (error) {
      const problem = ElasticProblem.from(error);
      if (problem.status === 404 || problem.status === 410) {
        this._fail(
          new ElasticProblem({
            reason: 'StartCancelled',
            message: 'The kernel was stopped while it started.'
          })
        );
        return;
      }
      throw error;
    }
  }

  dispose(): void {
    this._poll.dispose();
    Signal.clearData(this);
  }

  private _fail(problem: ElasticProblem): void {
    if (this._isDone) {
      return;
    }
    this._problem = problem;
    this._phase = 'Failed';
    this._end();
    this._running.reject(problem);
  }

  private _end(): void {
    this._isDone = true;
    void this._poll.stop().catch(() => undefined);
    this._changed.emit();
  }

  private readonly _api: IElasticApi;
  private readonly _read: (id: string) => Promise<IKernel>;
  private readonly _poll: Poll;
  private readonly _running = new PromiseDelegate<IKernel>();
  private readonly _changed = new Signal<this, void>(this);
  private _steps: IStep[] = [];
  private _phase: KernelPhase;
  private _problem: ElasticProblem | null = null;
  private _isDone = false;
  /** Of the readings of progress: two may overlap, and the older one answer last. */
  private _lastBegun = 0;
  private _known = 0;
}

export namespace KernelStart {
  export interface IOptions {
    api: IElasticApi;
    kernel: IKernel;
    /** How to read it again; by default, nobody else hears of that. */
    read?: (id: string) => Promise<IKernel>;
    /** Milliseconds between two readings, should no event come. */
    interval?: number;
  }
}
