/**
 * My kernels, each as the newest reading of it has it.
 *
 * Readings overlap, and answers do not come in the order in which they were asked for. So each has
 * a ticket from when it was begun, and what was begun before the reading that is known is not taken
 * over. That is enough: a change sends an event, and the reading that follows it begins after it.
 */
import { JSONExt } from '@lumino/coreutils';
import { ISignal, Signal } from '@lumino/signaling';
import {
  ElasticProblem,
  IChangeRequest,
  IElasticApi,
  IKernel,
  IStartRequest
} from './request';

/** When a reading was begun: what is begun later has a greater one. */
export type Ticket = number;

/** A reading that was taken over. */
export interface INoted {
  kernel: IKernel;
  /** What was known before: the same object where nothing has changed, null where nothing was. */
  before: IKernel | null;
  /** Whether what has happened in between is news to the user. */
  isNews: boolean;
}

export class Kernels {
  constructor(api: IElasticApi) {
    this._api = api;
  }

  /** A kernel was read. */
  get noted(): ISignal<this, INoted> {
    return this._noted;
  }

  /** A kernel has gone; its id. */
  get dropped(): ISignal<this, string> {
    return this._dropped;
  }

  /** All, newest first; the same array as long as none has changed. */
  get all(): readonly IKernel[] {
    this._sorted ??= [...this._kernels.values()].sort((a, b) => b.created - a.created);
    return this._sorted;
  }

  get(id: string | null | undefined): IKernel | null {
    return (id && this._kernels.get(id)) || null;
  }

  /** Whether that is so of any. */
  some(test: (kernel: IKernel) => boolean): boolean {
    return [...this._kernels.values()].some(test);
  }

  /** The ticket of a reading that begins now. */
  begin(): Ticket {
    return ++this._lastTicket;
  }

  /** Read one. Resolves with the newest that is known then; rejects as the server answers. */
  async read(id: string): Promise<IKernel> {
    const begun = this.begin();
    try {
      const kernel = await this._api.kernel(id);
      this.take(kernel, begun);
      return this.get(id) ?? kernel;
    } catch (error) {
      if (isGone(error)) {
        this.drop(id, begun);
      }
      throw error;
    }
  }

  /** Ask for a new one. Resolves with it as it was accepted, which may be older than `get`. */
  async start(request: IStartRequest): Promise<IKernel> {
    const begun = this.begin();
    const kernel = await this._api.start(request);
    if (!this._isReadSince(kernel.kernel_id, begun)) {
      // Nothing that was begun meanwhile, and answers later, knows more of it.
      this.take(kernel, this.begin());
    }
    return kernel;
  }

  /** Ask for a change; resolves when the server has answered, and `get` has its answer. */
  async change(id: string, change: IChangeRequest): Promise<void> {
    const begun = this.begin();
    const answer = await this._api.change(id, change);
    if (this._isReadSince(id, begun)) {
      // That reading may be of before the change or of after it: only another one can tell.
      try {
        await this.read(id);
        return;
      } catch (error) {
        if (isGone(error)) {
          return;
        }
      }
    }
    this.take(answer, this.begin());
  }

  /** Take over what was read by something that was begun then. */
  take(read: IKernel, begun: Ticket, isNews = true): void {
    const id = read.kernel_id;
    if (this._isReadSince(id, begun)) {
      return;
    }
    this._tickets.set(id, begun);
    const before = this.get(id);
    // The same object stays, so that nothing is drawn again.
    const isSame = before && JSONExt.deepEqual(before as never, read as never);
    const kernel = isSame ? before : read;
    if (!isSame) {
      this._kernels.set(id, kernel);
      this._sorted = null;
    }
    this._noted.emit({ kernel, before, isNews });
  }

  /** Take over a list of all. What is not in it has gone, but for what `isAwaited`. */
  takeAll(
    read: readonly IKernel[],
    begun: Ticket,
    options: { isAwaited: (id: string) => boolean; isNews: boolean }
  ): void {
    const ids = new Set(read.map(one => one.kernel_id));
    for (const id of [...this._kernels.keys()]) {
      if (!ids.has(id) && !options.isAwaited(id)) {
        this.drop(id, begun);
      }
    }
    read.forEach(one => this.take(one, begun, options.isNews));
  }

  /** One has gone, as something says that was begun then; by default, what comes now. */
  drop(id: string, begun: Ticket = this.begin()): void {
    if (this._isReadSince(id, begun)) {
      return;
    }
    this._tickets.set(id, begun);
    if (this._kernels.delete(id)) {
      this._sorted = null;
      this._dropped.emit(id);
    }
  }

  private _isReadSince(id: string, begun: Ticket): boolean {
    return (this._tickets.get(id) ?? 0) > begun;
  }

  private readonly _api: IElasticApi;
  private readonly _kernels = new Map<string, IKernel>();
  /** Of the reading that is known; also of those that have gone, lest an older list bring them. */
  private readonly _tickets = new Map<string, Ticket>();
  private _lastTicket: Ticket = 0;
  private _sorted: readonly IKernel[] | null = null;
  private readonly _noted = new Signal<this, INoted>(this);
  private readonly _dropped = new Signal<this, string>(this);
}

/** Whether the server says that a kernel is not there (any more). */
export function isGone(error: unknown): boolean {
  return (
    error instanceof ElasticProblem &&
    (error.reason === 'UnknownKernel' || error.status === 404 || error.status === 410)
  );
}
