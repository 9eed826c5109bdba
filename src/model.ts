/**
 * What the server knows of templates, kernels, pool and capacity, kept up to date.
 *
 * Events are hints: each makes the model read again what it concerns. A slow poll is the safety
 * net; it backs off on errors and stands by while the page is hidden. No widget fetches.
 */
import { Event } from '@jupyterlab/services';
import { JSONExt } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { Poll, Throttler } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';
import {
  hasBegunAnew,
  IHappening,
  isPolicy,
  isUnderWay,
  whatHappened
} from './happenings';
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
    this._usage = new UsageReader({
      api: this._api,
      isRunning: id => this._kernels.get(id)?.phase === 'Running',
      interval: options.usageInterval ?? 5000,
      standby
    });
    this._usage.changed.connect(() => this._changed.emit());
    this._resizes = new Resizes({
      api: this._api,
      kernel: id => this.kernel(id),
      note: kernel => this._note(kernel),
      noted: this._noted,
      dropped: this._dropped
    });
    this._resizes.changed.connect(() => {
      this._retime();
      this._changed.emit();
    });
    this._overview = new Throttler(() => this._loadOverview(), { limit: 1000 });
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
    return this._templates;
  }

  /** What is wrong with templates that cannot be offered. */
  get templateProblems(): readonly IProblem[] {
    return this._templateProblems;
  }

  /** My kernels, newest first. */
  get kernels(): readonly IKernel[] {
    this._sorted ??= [...this._kernels.values()].sort((a, b) => b.created - a.created);
    return this._sorted;
  }

  get pool(): IPool | null {
    return this._pool;
  }

  get capacity(): ICapacity | null {
    return this._capacity;
  }

  template(name: string): ITemplate | null {
    return this._templates.find(template => template.name === name) ?? null;
  }

  kernel(id: string | null | undefined): IKernel | null {
    return (id && this._kernels.get(id)) || null;
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
    return this._starts.get(id) ?? null;
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
    const kernel = await this._api.start(request);
    this._note(kernel);
    return this._follow(kernel);
  }

  /**
   * Resize a running kernel. Resolves with the kernel when the resize is done.
   *
   * Rejects with an `ElasticProblem` when it is refused; `resizeOf` says the same.
   */
  async resize(id: string, wish: IResourceWish): Promise<IKernel> {
    const kernel = await this._resizes.resize(id, wish);
    void this._overview.invoke().catch(() => undefined);
    return kernel;
  }

  /**
   * Give a kernel another pod of that size, in which it has none of its variables: ask first.
   * Resolves with the kernel when it runs there, and rejects as `resize` does.
   */
  async replace(id: string, wish: IResourceWish): Promise<IKernel> {
    const kernel = await this._resizes.replace(id, wish);
    void this._overview.invoke().catch(() => undefined);
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
    this._drop(id);
    void this._overview.invoke().catch(() => undefined);
  }

  /** See to it that a kernel which was ended by other means is gone. */
  async ensureStopped(id: string): Promise<void> {
    const kernels = await this._api.kernels();
    if (kernels.some(kernel => kernel.kernel_id === id)) {
      await this.stop(id);
      return;
    }
    this._drop(id);
    void this._overview.invoke().catch(() => undefined);
  }

  /** Forget a start that failed, once the user has seen it, and remove its record. */
  async dismissStart(id: string): Promise<void> {
    const start = this._starts.get(id);
    if (start?.isDone) {
      start.dispose();
      this._starts.delete(id);
      this._changed.emit();
    }
    // The start may know of the failure before the list of kernels does.
    const problem = start?.problem ?? null;
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
    this._starts.forEach(start => start.dispose());
    this._starts.clear();
    this.remembered.dispose();
    Signal.clearData(this);
  }

  private _onEvent(_: Event.IManager, event: Event.Emission): void {
    if (isElasticEvent(event.schema_id, 'kernel')) {
      const id = typeof event.kernel_id === 'string' ? event.kernel_id : '';
      this._tellEnd(id, event);
      if (event.change === 'removed') {
        this._drop(id);
      } else if (id) {
        void this._readKernel(id);
      }
      void this._overview.invoke().catch(() => undefined);
    } else if (isElasticEvent(event.schema_id, 'pool')) {
      void this._overview.invoke().catch(() => undefined);
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
      this._note(await this._api.kernel(id));
      await this._starts.get(id)?.refresh();
    } catch (error) {
      if (isGone(error)) {
        this._drop(id);
      }
      // Anything else: the poll reads it again, and says so if that fails as well.
    }
  }

  private async _load(): Promise<void> {
    try {
      const [kernels] = await Promise.all([
        this._api.kernels(),
        this._status
          ? null
          : this._api.status().then(status => (this._status = status)),
        this._readOverview()
      ]);
      if (this._isDisposed) {
        return;
      }
      const ids = new Set(kernels.map(kernel => kernel.kernel_id));
      for (const id of this._kernels.keys()) {
        // A kernel asked for a moment ago may be missing from a list made before it.
        const start = this._starts.get(id);
        if (!ids.has(id) && (!start || start.isDone)) {
          this._drop(id);
        }
      }
      kernels.forEach(kernel => this._note(kernel, this._isReady));
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

  /** What changes with every start: warm counts, pool, capacity. */
  private async _readOverview(): Promise<void> {
    const [templates, pool, capacity] = await Promise.all([
      this._api.templates(),
      this._api.pool(),
      this._api.capacity()
    ]);
    this._templates = templates.templates;
    this._templateProblems = templates.problems;
    this._pool = pool;
    this._capacity = capacity;
  }

  private async _loadOverview(): Promise<void> {
    await this._readOverview();
    if (!this._isDisposed) {
      this._changed.emit();
    }
  }

  /** Take over a kernel as the server says it is now; tell what happened to it. */
  private _note(kernel: IKernel, tell = true): void {
    const id = kernel.kernel_id;
    const before = this._kernels.get(id) ?? null;
    if (before && JSONExt.deepEqual(before as never, kernel as never)) {
      // The same object stays, so that nothing is drawn again.
      if (isUnderWay(before)) {
        this._follow(before);
      }
      return;
    }
    this._kernels.set(id, kernel);
    this._sorted = null;
    if (before && hasBegunAnew(before, kernel)) {
      this.clearResize(id);
    }
    if (isUnderWay(kernel)) {
      this._follow(kernel);
    }
    const happening = tell ? whatHappened(before, kernel) : null;
    if (happening === 'out-of-memory') {
      this._usage.markOutOfMemory(id);
    }
    this._retime();
    this._noted.emit(kernel);
    this._changed.emit();
    if (happening) {
      this._happened.emit({ kind: happening, kernel });
    }
  }

  private _drop(id: string): void {
    const start = this._starts.get(id);
    if (start && !start.isDone) {
      // It reads that it is gone, and ends with that reason.
      void start.refresh().catch(() => undefined);
    }
    if (this._kernels.delete(id)) {
      this._sorted = null;
      this._usage.forget(id);
      this._keptAt.delete(id);
      this._resizes.forget(id);
      this._dropped.emit(id);
      this._changed.emit();
    }
  }

  /** The start of a kernel, followed from now on. */
  private _follow(kernel: IKernel): KernelStart {
    const id = kernel.kernel_id;
    const known = this._starts.get(id);
    if (known && !known.isDone) {
      return known;
    }
    known?.dispose();
    const start = new KernelStart({ api: this._api, kernel });
    const forget = (): void => {
      start.dispose();
      if (this._starts.get(id) === start) {
        this._starts.delete(id);
      }
    };
    this._starts.set(id, start);
    start.changed.connect(() => this._changed.emit());
    start.running.then(
      running => {
        forget();
        const seconds = secondsOf(start);
        if (seconds !== null && running.start && kernel.phase !== 'Moving') {
          this.remembered.noteStart(kernel.template, running.start, seconds);
        }
        this._note(running);
      },
      () => {
        if (kernel.phase === 'Moving') {
          // Its record says why it failed; there is no form that shows it until dismissed.
          forget();
        }
        this._changed.emit();
      }
    );
    return start;
  }

  /** Poll quickly while a resize is in progress, slowly otherwise. */
  private _retime(): void {
    const busy =
      this._resizes.isApplying ||
      [...this._kernels.values()].some(kernel => kernel.resize?.state === 'InProgress');
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
  private readonly _usage: UsageReader;
  private readonly _resizes: Resizes;
  private readonly _overview: Throttler;
  private _pollInterval: number;
  private _isDisposed = false;
  private _isReady = false;
  private _problem: ElasticProblem | null = null;
  private _status: IStatus | null = null;
  private _templates: ITemplate[] = [];
  private _templateProblems: IProblem[] = [];
  private _pool: IPool | null = null;
  private _capacity: ICapacity | null = null;
  private readonly _kernels = new Map<string, IKernel>();
  private readonly _told = new Set<string>();
  private _sorted: readonly IKernel[] | null = null;
  private readonly _starts = new Map<string, KernelStart>();
  private readonly _keptAt = new Map<string, number>();
  private readonly _changed = new Signal<this, void>(this);
  private readonly _happened = new Signal<this, IHappening>(this);
  private readonly _noted = new Signal<this, IKernel>(this);
  private readonly _dropped = new Signal<this, string>(this);
}

/** How long a start took by its own steps; null where they do not tell. */
function secondsOf(start: KernelStart): number | null {
  const { steps } = start;
  const last = steps[steps.length - 1];
  return last
    ? Math.max(0, last.time - Math.min(steps[0].time, start.kernel.created))
    : null;
}

/** Whether the server says that a kernel is not there (any more). */
function isGone(error: unknown): boolean {
  return (
    error instanceof ElasticProblem &&
    (error.reason === 'UnknownKernel' || error.status === 404 || error.status === 410)
  );
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
