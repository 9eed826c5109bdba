/**
 * What changes with every start, whoever starts: warm counts, pool, capacity.
 */
import { JSONExt } from '@lumino/coreutils';
import { IDisposable } from '@lumino/disposable';
import { Throttler } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';
import { ICapacity, IElasticApi, IPool, IProblem, ITemplate } from './request';

/** Milliseconds between two readings that were asked for by `renew`, at least. */
const LIMIT = 1000;

/** What was read at about the same time. */
interface IReading {
  templates: ITemplate[];
  problems: IProblem[];
  pool: IPool | null;
  capacity: ICapacity | null;
}

export class Overview implements IDisposable {
  constructor(api: IElasticApi) {
    this._api = api;
    this._renewals = new Throttler(
      async () => {
        if ((await this.read()) && !this.isDisposed) {
          this._changed.emit();
        }
      },
      { limit: LIMIT }
    );
  }

  /** `renew` has led to something. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** The newest reading. */
  get latest(): Readonly<IReading> {
    return this._latest;
  }

  get isDisposed(): boolean {
    return this._renewals.isDisposed;
  }

  /** Read again soon, because something has happened; a flood of these is one reading. */
  renew(): void {
    // Should it fail, the poll reads it, and says so if that fails as well.
    void this._renewals.invoke().catch(() => undefined);
  }

  /**
   * Read now; resolves with whether anything has changed. What was begun before a reading that is
   * known already is not taken over.
   */
  async read(): Promise<boolean> {
    const begun = ++this._lastBegun;
    const [{ templates, problems }, pool, capacity] = await Promise.all([
      this._api.templates(),
      this._api.pool(),
      this._api.capacity()
    ]);
    if (begun < this._known) {
      return false;
    }
    this._known = begun;
    const before = this._latest;
    // The same objects stay where nothing has changed, so that nothing is drawn again.
    this._latest = {
      templates: same(before.templates, templates),
      problems: same(before.problems, problems),
      pool: same(before.pool, pool),
      capacity: same(before.capacity, capacity)
    };
    return (Object.keys(before) as (keyof IReading)[]).some(
      key => before[key] !== this._latest[key]
    );
  }

  dispose(): void {
    this._renewals.dispose();
    Signal.clearData(this);
  }

  private readonly _api: IElasticApi;
  private readonly _renewals: Throttler;
  private readonly _changed = new Signal<this, void>(this);
  private _latest: IReading = {
    templates: [],
    problems: [],
    pool: null,
    capacity: null
  };
  private _lastBegun = 0;
  private _known = 0;
}

/** What was there before, where it is equal. */
function same<T>(before: T, now: T): T {
  return JSONExt.deepEqual(before as never, now as never) ? before : now;
}
