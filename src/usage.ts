/**
 * What kernels use now: read only of those that somebody looks at, only while they are looked at.
 */
import { DisposableDelegate, IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';
import { IElasticApi, IUsage } from './request';
import { ISample, sampleOf, withSample } from './samples';

const NOTHING: readonly ISample[] = [];

export class UsageReader implements IDisposable {
  constructor(options: UsageReader.IOptions) {
    this._api = options.api;
    this._isRunning = options.isRunning;
    this._poll = new Poll({
      name: 'jupyter_elastic:usage',
      auto: false,
      factory: () => this._read(),
      frequency: { interval: options.interval, backoff: true, max: 60000 },
      standby: options.standby
    });
  }

  /** New readings have come. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  /** Milliseconds between two readings. */
  set interval(interval: number) {
    this._poll.frequency = { ...this._poll.frequency, interval };
  }

  /** The last reading of a watched kernel. */
  get(id: string): IUsage | null {
    return this._readings.get(id) ?? null;
  }

  /** The last readings of a kernel that is or was watched, oldest first. */
  history(id: string): readonly ISample[] {
    return this._histories.get(id) ?? NOTHING;
  }

  /** A kernel has run out of memory: the next sample says so. */
  markOutOfMemory(id: string): void {
    this._outOfMemory.add(id);
  }

  /** Read the use of a kernel until the result is disposed of. */
  watch(id: string): IDisposable {
    this._watched.set(id, (this._watched.get(id) ?? 0) + 1);
    void this._poll.start().catch(() => undefined);
    return new DisposableDelegate(() => {
      const count = (this._watched.get(id) ?? 1) - 1;
      if (count > 0) {
        this._watched.set(id, count);
        return;
      }
      this._watched.delete(id);
      if (!this._watched.size && !this._poll.isDisposed) {
        void this._poll.stop().catch(() => undefined);
      }
    });
  }

  /** A kernel has gone. */
  forget(id: string): void {
    this._readings.delete(id);
    this._histories.delete(id);
    this._outOfMemory.delete(id);
  }

  dispose(): void {
    this._poll.dispose();
    Signal.clearData(this);
  }

  private async _read(): Promise<void> {
    const ids = [...this._watched.keys()].filter(this._isRunning);
    const answers = await Promise.allSettled(ids.map(id => this._api.usage(id)));
    if (this.isDisposed) {
      return;
    }
    const failed: unknown[] = [];
    answers.forEach((answer, index) => {
      if (answer.status === 'fulfilled') {
        this._take(ids[index], answer.value);
      } else {
        // No figure is better than an old one.
        this._readings.delete(ids[index]);
        failed.push(answer.reason);
      }
    });
    this._changed.emit();
    if (failed.length && failed.length === ids.length) {
      throw failed[0];
    }
  }

  private _take(id: string, usage: IUsage): void {
    const before = this._readings.get(id) ?? null;
    if (before?.time === usage.time) {
      return;
    }
    const sample = sampleOf(before, usage, this._outOfMemory.delete(id));
    this._histories.set(id, withSample(this.history(id), sample));
    this._readings.set(id, usage);
  }

  private readonly _api: IElasticApi;
  private readonly _isRunning: (id: string) => boolean;
  private readonly _poll: Poll;
  private readonly _watched = new Map<string, number>();
  private readonly _readings = new Map<string, IUsage>();
  private readonly _histories = new Map<string, ISample[]>();
  private readonly _outOfMemory = new Set<string>();
  private readonly _changed = new Signal<this, void>(this);
}

export namespace UsageReader {
  export interface IOptions {
    api: IElasticApi;
    /** Whether there is anything to read of a kernel now. */
    isRunning: (id: string) => boolean;
    /** Milliseconds between two readings. */
    interval: number;
    /** When the poll pauses. */
    standby: Poll.Standby;
  }
}
