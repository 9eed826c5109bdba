/**
 * The toolbar chip of one notebook: there for an elastic kernel, hidden for any other.
 */
import { ISessionContext, ReactWidget } from '@jupyterlab/apputils';
import {
  ITranslator,
  nullTranslator,
  TranslationBundle
} from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import { Message } from '@lumino/messaging';
import * as React from 'react';
import { ChipButton } from '../components/chipButton';
import { ElasticModel } from '../model';

export class ElasticChip extends ReactWidget {
  constructor(options: ElasticChip.IOptions) {
    super();
    this.addClass('jp-Elastic-chipWidget');
    this._model = options.model;
    this._context = options.sessionContext;
    this._onOpen = options.onOpen;
    this._trans = (options.translator ?? nullTranslator).load('jupyter_elastic');
    this._model.changed.connect(this._onChange, this);
    this._context.kernelChanged.connect(this._onChange, this);
    this._onChange();
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this._model.changed.disconnect(this._onChange, this);
    this._context.kernelChanged.disconnect(this._onChange, this);
    this._watch(null);
    super.dispose();
  }

  protected override render(): JSX.Element | null {
    const kernel = this._model.kernel(this._kernelId);
    return kernel ? (
      <ChipButton
        kernel={kernel}
        usage={this._model.usage(kernel.kernel_id)}
        trans={this._trans}
        onOpen={this._onOpen}
      />
    ) : null;
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this._watch(this._kernelId);
  }

  protected override onBeforeHide(msg: Message): void {
    this._watch(null);
    super.onBeforeHide(msg);
  }

  protected override onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    this._onChange();
  }

  protected override onBeforeDetach(msg: Message): void {
    this._watch(null);
    super.onBeforeDetach(msg);
  }

  private get _kernelId(): string | null {
    const id = this._context.isDisposed ? null : this._context.session?.kernel?.id;
    return id ?? null;
  }

  private _onChange(): void {
    const kernel = this._model.kernel(this._kernelId);
    this.setHidden(!kernel);
    this._watch(kernel && this.isVisible ? kernel.kernel_id : null);
    this.update();
  }

  private _watch(id: string | null): void {
    if (id === this._watchedId) {
      return;
    }
    // First the new, then the old, so that the poll does not stop in between.
    const next = id ? this._model.watch(id) : null;
    this._watching?.dispose();
    this._watching = next;
    this._watchedId = id;
  }

  private readonly _model: ElasticModel;
  private readonly _context: ISessionContext;
  private readonly _onOpen: () => void;
  private readonly _trans: TranslationBundle;
  private _watching: IDisposable | null = null;
  private _watchedId: string | null = null;
}

export namespace ElasticChip {
  export interface IOptions {
    model: ElasticModel;
    sessionContext: ISessionContext;
    translator?: ITranslator;
    onOpen: () => void;
  }
}
