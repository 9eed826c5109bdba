/**
 * The start asked for by the form in the panel: one at a time, and the last one's outcome.
 */
import { ISignal, Signal } from '@lumino/signaling';
import { ElasticActions } from '../actions';
import { ElasticModel } from '../model';
import { ElasticProblem, IStartRequest } from '../request';
import { KernelStart } from '../start';

export class PanelStart {
  constructor(options: PanelStart.IOptions) {
    this._model = options.model;
    this._actions = options.actions;
    this._onAttached = options.onAttached;
    this._onProblem = options.onProblem;
  }

  /** Something that the getters below return has changed. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Whether one is under way, from the request until the document uses the kernel. */
  get isUnderWay(): boolean {
    return this._isUnderWay;
  }

  /** The start that was accepted; null before, and once the document uses the kernel. */
  get accepted(): KernelStart | null {
    return this._accepted;
  }

  /** Why the last one failed. */
  get problem(): ElasticProblem | null {
    return this._problem;
  }

  /** Whether this start is the one that is told of here. */
  isOf(id: string): boolean {
    // A start may fail before its id has come back from the server.
    return this._accepted ? this._accepted.kernel.kernel_id === id : this._isUnderWay;
  }

  /** Start, and remember the choice. The outcome is in the getters. */
  async begin(request: IStartRequest): Promise<void> {
    this.forget();
    this._isUnderWay = true;
    this._changed.emit();
    try {
      const begun = await this._actions.start(request);
      if (!begun) {
        return;
      }
      const { start, attached } = begun;
      const { template, resources } = request;
      this._model.remembered.noteChoice(template, resources ?? {});
      this._accepted = start;
      this._changed.emit();
      await attached;
      this._accepted = null;
      this._onAttached();
    } catch (error) {
      this._problem = ElasticProblem.from(error);
    } finally {
      this._isUnderWay = false;
      this._changed.emit();
    }
  }

  /** The last start is no longer news; the record of one that failed is removed. */
  forget(): void {
    const id = this._accepted?.kernel.kernel_id;
    this._accepted = null;
    this._problem = null;
    this._changed.emit();
    if (id) {
      this._model.dismissStart(id).catch(this._onProblem);
    }
  }

  private readonly _model: ElasticModel;
  private readonly _actions: ElasticActions;
  private readonly _onAttached: () => void;
  private readonly _onProblem: (error: unknown) => void;
  private readonly _changed = new Signal<this, void>(this);
  private _isUnderWay = false;
  private _accepted: KernelStart | null = null;
  private _problem: ElasticProblem | null = null;
}

export namespace PanelStart {
  export interface IOptions {
    model: ElasticModel;
    actions: ElasticActions;
    /** The document uses the kernel now. */
    onAttached: () => void;
    /** What is left of a failed start could not be removed. */
    onProblem: (error: unknown) => void;
  }
}
