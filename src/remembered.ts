/**
 * What is kept from one visit to the next: the last choices, and how long starts took.
 */
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { IResourceWish } from './request';

/** Key in the state database. */
const KEY = 'jupyter_elastic:remembered';

/** How many starts of a kind are kept; of those the median counts. */
const KEPT = 5;

export type StartKind = 'warm' | 'cold';

interface IState {
  /** Template that was started last. */
  template?: string;
  /** What was last asked for of each template. */
  wishes?: { [template: string]: IResourceWish };
  /** Seconds that the last starts took, oldest first. */
  starts?: { [template: string]: { [kind in StartKind]?: number[] } };
}

/** The part of Lab's state database that is needed. */
export interface IStore {
  fetch(id: string): Promise<unknown>;
  save(id: string, value: never): Promise<unknown>;
}

export class Remembered implements IDisposable {
  constructor(store: IStore | null = null) {
    this._store = store;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** The template that was started last; empty where none was. */
  get template(): string {
    return this._state.template ?? '';
  }

  /** What was last asked for of a template. */
  wish(template: string): IResourceWish | null {
    return this._state.wishes?.[template] ?? null;
  }

  /** Seconds that a start takes, by the last ones; null where none is known. */
  seconds(template: string, kind: StartKind): number | null {
    const known = this._state.starts?.[template]?.[kind] ?? [];
    return known.length
      ? [...known].sort((a, b) => a - b)[Math.floor(known.length / 2)]
      : null;
  }

  /** Read what was kept. That nothing can be read is no failure: there are only no memories. */
  async load(): Promise<void> {
    const kept = await this._store?.fetch(KEY);
    if (isState(kept)) {
      // What has happened since the page was opened is newer.
      this._state = {
        ...kept,
        ...this._state,
        wishes: { ...kept.wishes, ...this._state.wishes },
        starts: { ...kept.starts, ...this._state.starts }
      };
      this._changed.emit();
    }
  }

  noteChoice(template: string, wish: IResourceWish): void {
    const wishes = { ...this._state.wishes, [template]: wish };
    this._set({ ...this._state, template, wishes });
  }

  noteStart(template: string, kind: StartKind, seconds: number): void {
    const before = this._state.starts?.[template];
    const times = [...(before?.[kind] ?? []), seconds].slice(-KEPT);
    const starts = {
      ...this._state.starts,
      [template]: { ...before, [kind]: times }
    };
    this._set({ ...this._state, starts });
  }

  dispose(): void {
    this._isDisposed = true;
    Signal.clearData(this);
  }

  private _set(state: IState): void {
    this._state = state;
    this._changed.emit();
    this._store?.save(KEY, state as never).catch(reason => {
      console.warn('jupyter_elastic: choices could not be kept.', reason);
    });
  }

  private readonly _store: IStore | null;
  private readonly _changed = new Signal<this, void>(this);
  private _state: IState = {};
  private _isDisposed = false;
}

function isState(kept: unknown): kept is IState {
  return typeof kept === 'object' && kept !== null && !Array.isArray(kept);
}
