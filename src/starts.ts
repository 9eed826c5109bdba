/**
 * The starts and moves that are under way, each followed from when it is first seen.
 */
import { IDisposable } from '@lumino/disposable';
import { ISignal, Signal } from '@lumino/signaling';
import { Kernels } from './kernels';
import { Remembered } from './remembered';
import { IElasticApi, IKernel } from './request';
import { KernelStart } from './start';

export class Starts implements IDisposable {
  constructor(options: Starts.IOptions) {
    this._api = options.api;
    this._kernels = options.kernels;
    this._remembered = options.remembered;
  }

  /** A start has changed, has come or has gone. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** The start of a kernel that is under way, or failed and was not forgotten. */
  get(id: string): KernelStart | null {
    return this._starts.get(id) ?? null;
  }

  /** Whether it is not known yet how the start of a kernel ends. */
  isOpen(id: string): boolean {
    return this._starts.get(id)?.isDone === false;
  }

  /** The start of a kernel, followed from now on. */
  follow(kernel: IKernel): KernelStart {
    const id = kernel.kernel_id;
    const known = this._starts.get(id);
    if (known && !known.isDone) {
      return known;
    }
    known?.dispose();
    const start = new KernelStart({
      api: this._api,
      kernel,
      read: () => this._kernels.read(id)
    });
    this._starts.set(id, start);
    start.changed.connect(() => this._changed.emit());
    start.running.then(
      running => {
        this._remove(start);
        const seconds = secondsOf(start);
        if (seconds !== null && running.start && kernel.phase !== 'Moving') {
          this._remembered.noteStart(kernel.template, running.start, seconds);
        }
        this._changed.emit();
      },
      () => {
        if (kernel.phase === 'Moving') {
          // Its record says why it failed; there is no form that shows it until dismissed.
          this._remove(start);
        }
        this._changed.emit();
      }
    );
    return start;
  }

  /** Forget a start that has ended. */
  forget(id: string): void {
    const start = this._starts.get(id);
    if (start?.isDone) {
      this._remove(start);
      this._changed.emit();
    }
  }

  /** Let a start see now that its kernel has gone, and end with that reason. */
  hurry(id: string): void {
    if (this.isOpen(id)) {
      // Should it fail, it is asked again before long.
      void this._starts
        .get(id)
        ?.refresh()
        .catch(() => undefined);
    }
  }

  dispose(): void {
    if (this._isDisposed) {
      return;
    }
    this._isDisposed = true;
    this._starts.forEach(start => start.dispose());
    this._starts.clear();
    Signal.clearData(this);
  }

  private _remove(start: KernelStart): void {
    const id = start.kernel.kernel_id;
    start.dispose();
    if (this._starts.get(id) === start) {
      this._starts.delete(id);
    }
  }

  private readonly _api: IElasticApi;
  private readonly _kernels: Kernels;
  private readonly _remembered: Remembered;
  private readonly _starts = new Map<string, KernelStart>();
  private readonly _changed = new Signal<this, void>(this);
  private _isDisposed = false;
}

/** How long a start took by its own steps; null where they do not tell. */
function secondsOf(start: KernelStart): number | null {
  const { steps } = start;
  const last = steps[steps.length - 1];
  return last
    ? Math.max(0, last.time - Math.min(steps[0].time, start.kernel.created))
    : null;
}

export namespace Starts {
  export interface IOptions {
    api: IElasticApi;
    kernels: Kernels;
    /** Is told how long starts take. */
    remembered: Remembered;
  }
}
