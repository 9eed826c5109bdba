/**
 * What the server knows of templates, kernels, pool and capacity, kept up to date.
 *
 * Events are hints: each makes the model read again what it concerns. A slow poll is the safety
 * net; it backs off on errors and stands by while the page is hidden. No widget fetches. Which of two
 * answers is newer is for `kernels.ts` to say.
 */
import { Event } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';
import {
  hasBegunAnew,
  IHappening,
  isPolicy,
  isUnderWay,
  whatHappened
} from './happenings';
import { INoted, isGone, Kernels } from './kernels';
import { Overview } from './overview';
import {
  ElasticProblem,
  ICapacity,
  IElasticApi,
  IKernel,
  IPool,
  IProblem,
  IResourceWish,
  IStartRequest,
  IStatus,
  ITemplate,
  IUsage
} from './request';
import { IResizeState, Resizes } from './resize';
import { Remembered } from './remembered';
import { ISample } from './samples';
import { KernelStart } from './start';
import { Starts } from './starts';
import { isElasticEvent } from './tokens';
import { UsageReader } from './usage';

/** Milliseconds between two readings while a resize is in progress. */
const QUICK_INTERVAL = 1000;

export class ElasticModel implements IDisposable {
  constructor(options: ElasticModel.IOptions) {
    this._api = options.api;
    this.remembered = options.remembered ?? new Remembered();
    this.remembered.changed.connect(() => this._changed.emit());
    this._events = options.events ?? null;
    this._pollInterval = options.pollInterval ?? 30000;
    const standby = options.standby ?? 'when-hidden';
    this._poll = new Poll({
      name: 'jupyter_elastic:model',
      auto: false,
      factory: () => this._load(),
      frequency: { interval: this._pollInterval, backoff: true, max: 300000 },
      standby
    });
    this._kernels = new Kernels(this._api);
    this._starts = new Starts({
      api: this._api,
      kernels: this._kernels,
      remembered: this.remembered
    });
    this._starts.changed.connect(() => this._changed.emit());
    this._usage = new UsageReader({
      api: this._api,
      isRunning: id => this._kernels.get(id)?.phase === 'Running',
      interval: options.usageInterval ?? 5000,
      standby
    });
    this._usage.changed.connect(() => this._changed.emit());
    this._resizes = new Resizes(this._kernels);
    this._resizes.changed.connect(() => {
      this._retime();
      this._changed.emit();
    });
    this._kernels.noted.connect(this._onNoted, this);
    this._kernels.dropped.connect(this._onDropped, this);
    this._overview = new Overview(this._api);
    this._overview.changed.connect(() => this._changed.emit());
    this._events?.stream.connect(this._onEvent, this);
  }

  /** What is kept from one visit to the next. */
  readonly remembered: Remembered;

  /** Something that the getters below return has changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** A kernel did something that a user should be told of. */
  get happened(): ISignal<this, IHappening> {
    return this._happened;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Whether the server has answered once. */
  get isReady(): boolean {
    return this._isReady;
  }

  /** Why the last reading failed; null when it did not. */
  get problem(): ElasticProblem | null {
    return this._problem;
  }

  get status(): IStatus | null {
    return this._status;
  }

  get templates(): readonly ITemplate[] {
    return this._overview.latest.templates;
  }

  /** What is wrong with templates that cannot be offered. */
  get templateProblems(): readonly IProblem[] {
    return this._overview.latest.problems;
  }

  /** My kernels, newest first. */
  get kernels(): readonly IKernel[] {
    return this._kernels.all;
  }

  get pool(): IPool | null {
    return this._overview.latest.pool;
  }

  get capacity(): ICapacity | null {
    return this._overview.latest.capacity;
  }

  template(name: string): ITemplate | null {
    return this.templates.find(template => template.name === name) ?? null;
  }

  kernel(id: string | null | undefined): IKernel | null {
    return this._kernels.get(id);
  }

  /** The last reading of a watched kernel's use. */
  usage(id: string): IUsage | null {
    return this._usage.get(id) ?? null;
  }

  /** The last readings of a kernel that is or was watched, oldest first. */
  history(id: string): readonly ISample[] {
    return this._usage.history(id);
  }

  /** When the user last asked to keep a kernel; seconds since the epoch, 0 for never. */
  keptAt(id: string): number {
    return this._keptAt.get(id) ?? 0;
  }

  /** Restart the idle clock of a kernel. */
  async keepAlive(id: string): Promise<void> {
    await this._api.keepAlive(id);
    this._keptAt.set(id, Date.now() / 1000);
    this._changed.emit();
  }

  /** The start of a kernel that is Queued, Starting or Moving, or failed to start. */
  startOf(id: string): KernelStart | null {
    return this._starts.get(id);
  }

  /** How a resize stands: one asked for here, or one that the kernel's record tells of. */
  resizeOf(id: string): IResizeState | null {
    return this._resizes.of(id);
  }

  /** Forget the outcome of the last resize, because the user goes on. */
  clearResize(id: string): void {
    this._resizes.clear(id);
  }

  /** Begin to read, and go on until disposed. Safe to call twice. */
  async open(): Promise<void> {
    await this._poll.start();
    await this._poll.tick;
  }

  /** Read everything now. */
  async refresh(): Promise<void> {
    await this._poll.refresh();
    await this._poll.tick;
  }

  /** Change how often things are read; milliseconds. */
  setIntervals(poll: number, usage: number): void {
    this._pollInterval = poll;
    this._usage.interval = usage;
    this._retime();
  }

  /** Read the use of a kernel until the result is disposed of. */
  watch(id: string): IDisposable {
    return this._usage.watch(id);
  }

  /**
   * Ask for a kernel. Resolves as soon as the server has accepted it; `running` of the result
   * tells how the start went.
   */
  async start(request: IStartRequest): Promise<KernelStart> {
    return this._starts.follow(await this._kernels.start(request));
  }

  /**
   * Resize a running kernel. Resolves with the kernel when the resize is done.
   *
   * Rejects with an `ElasticProblem` when it is refused; `resizeOf` says the same.
   */
  async resize(id: string, wish: IResourceWish): Promise<IKernel> {
    const kernel = await this._resizes.resize(id, wish);
    this._overview.renew();
    return kernel;
  }

  /**
   * Give a kernel another pod of that size, in which it has none of its variables: ask first.
   * Resolves with the kernel when it runs there, and rejects as `resize` does.
   */
  async replace(id: string, wish: IResourceWish): Promise<IKernel> {
    const kernel = await this._resizes.replace(id, wish);
    this._overview.renew();
    return kernel;
  }

  /** End a kernel or cancel its start. That it has ended already is no error. */
  async stop(id: string): Promise<void> {
    try {
      await this._api.stop(id);
    } catch (error) {
      if (!isGone(error)) {
        throw error;
      }
    }
    this._kernels.drop(id);
    this._overview.renew();
  }

  /** See to it that a kernel which was ended by other means is gone. */
  async ensureStopped(id: string): Promise<void> {
    const kernels = await this._api.kernels();
    if (kernels.some(kernel => kernel.kernel_id === id)) {
      await this.stop(id);
      return;
    }
    this._kernels.drop(id);
    this._overview.renew();
  }

  /** Forget a start that failed, once the user has seen it, and remove its record. */
  async dismissStart(id: string): Promise<void> {
    // The start may know of the failure before the list of kernels does.
    const problem = this._starts.get(id)?.problem ?? null;
    this._starts.forget(id);
    const hasFailed = this.kernel(id)?.phase === 'Failed' || problem !== null;
    if (hasFailed && problem?.reason !== 'StartCancelled') {
      await this.stop(id);
    }
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._events?.stream.disconnect(this._onEvent, this);
    this._poll.dispose();
    this._usage.dispose();
    this._overview.dispose();
    this._starts.dispose();
    this.remembered.dispose();
    Signal.clearData(this);
  }

  private _onEvent(_: Event.IManager, event: Event.Emission): void {
    if (isElasticEvent(event.schema_id, 'kernel')) {
      const id = typeof event.kernel_id === 'string' ? event.kernel_id : '';
      this._tellEnd(id, event);
      if (event.change === 'removed') {
        this._kernels.drop(id);
      } else if (id) {
        void this._readKernel(id);
      }
      this._overview.renew();
    } else if (isElasticEvent(event.schema_id, 'pool')) {
      this._overview.renew();
    }
  }

  /** Tell once of a kernel that was ended by a policy: its record is gone before it can be read. */
  private _tellEnd(id: string, event: Event.Emission): void {
    const kernel = this._kernels.get(id);
    const { reason, message } = event;
    if (
      kernel &&
      typeof reason === 'string' &&
      isPolicy(reason) &&
      !this._told.has(id)
    ) {
      this._told.add(id);
      const ended: IKernel = {
        ...kernel,
        phase: 'Stopped',
        reason,
        message: typeof message === 'string' ? message : ''
      };
      this._happened.emit({ kind: 'ended', kernel: ended });
    }
  }

  /** Read one kernel again, because an event said so. */
  private async _readKernel(id: string): Promise<void> {
    try {
      await this._kernels.read(id);
      await this._starts.get(id)?.refresh();
    } catch {
      // It has gone, or else the poll reads it again, and says so if that fails as well.
    }
  }

  private async _load(): Promise<void> {
    const begun = this._kernels.begin();
    try {
      const [kernels] = await Promise.all([
        this._api.kernels(),
        this._status
          ? null
          : this._api.status().then(status => (this._status = status)),
        this._overview.read()
      ]);
      if (this._isDisposed) {
        return;
      }
      this._kernels.takeAll(kernels, begun, {
        // A kernel asked for a moment ago may be missing from a list made before it.
        isAwaited: id => this._starts.isOpen(id),
        isNews: this._isReady
      });
      this._problem = null;
      this._isReady = true;
      this._changed.emit();
    } catch (error) {
      if (!this._isDisposed) {
        this._problem = ElasticProblem.from(error);
        this._changed.emit();
      }
      throw error;
    }
  }

  /** See what has become of a kernel; tell what happened to it. */
  private _onNoted(_: Kernels, { kernel, before, isNews }: INoted): void {
    const id = kernel.kernel_id;
    if (isUnderWay(kernel)) {
      this._starts.follow(kernel);
    }
    if (kernel === before) {
      return;
    }
    if (before && hasBegunAnew(before, kernel)) {
      this.clearResize(id);
    }
    const happening = isNews ? whatHappened(before, kernel) : null;
    if (happening === 'out-of-memory') {
      this._usage.markOutOfMemory(id);
    }
    this._retime();
    this._changed.emit();
    if (happening) {
      this._happened.emit({ kind: happening, kernel });
    }
  }

  private _onDropped(_: Kernels, id: string): void {
    this._starts.hurry(id);
    this._usage.forget(id);
    this._keptAt.delete(id);
    this._changed.emit();
  }

  /** Poll quickly while a resize is in progress, slowly otherwise. */
  private _retime(): void {
    const busy =
      this._resizes.isApplying ||
      this._kernels.some(kernel => kernel.resize?.state === 'InProgress');
    const interval = busy ? QUICK_INTERVAL : this._pollInterval;
    if (this._poll.frequency.interval !== interval) {
      this._poll.frequency = { ...this._poll.frequency, interval };
      if (busy && this._isReady) {
        void this._poll
          .schedule({ interval, phase: 'refreshed' })
          .catch(() => undefined);
      }
    }
  }

  private readonly _api: IElasticApi;
  private readonly _events: Event.IManager | null;
  private readonly _poll: Poll;
  private readonly _kernels: Kernels;
  private readonly _starts: Starts;
  private readonly _usage: UsageReader;
  private readonly _resizes: Resizes;
  private readonly _overview: Overview;
  private _pollInterval: number;
  private _isDisposed = false;
  private _isReady = false;
  private _problem: ElasticProblem | null = null;
  private _status: IStatus | null = null;
  private readonly _told = new Set<string>();
  private readonly _keptAt = new Map<string, number>();
  private readonly _changed = new Signal<this, void>(this);
  private readonly _happened = new Signal<this, IHappening>(this);
}

export namespace ElasticModel {
  export interface IOptions {
    api: IElasticApi;
    remembered?: Remembered;
    /** The server's event bus; without it there is only the poll. */
    events?: Event.IManager | null;
    /** Milliseconds between two readings of everything. */
    pollInterval?: number;
    /** Milliseconds between two readings of the use of a watched kernel. */
    usageInterval?: number;
    /** When polls pause. */
    standby?: Poll.Standby;
  }
}
