/**
 * The status bar's item: the current kernel's resources and memory in use, or how many kernels
 * I have.
 */
import { ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { CurrentDocument } from '../current';
import { elasticIcon } from '../icons';
import { ElasticModel } from '../model';
import { showResources } from '../resources';

export class ElasticStatus extends ReactWidget {
  constructor(options: ElasticStatus.IOptions) {
    super();
    this.addClass('jp-Elastic-status');
    this._options = options;
    options.model.changed.connect(this._onChange, this);
    options.current.changed.connect(this._onChange, this);
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this._options.model.changed.disconnect(this._onChange, this);
      this._options.current.changed.disconnect(this._onChange, this);
      super.dispose();
    }
  }

  protected override render(): JSX.Element | null {
    const { model, current, trans, onOpen } = this._options;
    const count = model.kernels.length;
    if (!count) {
      return null;
    }
    const kernel = model.kernel(current.kernelId);
    const mine = trans._n('%1 elastic kernel', '%1 elastic kernels', count);
    const text = kernel ? showResources(kernel.resources) : mine;
    const label = kernel
      ? trans.__('Elastic kernel: %1. You have %2.', text, mine)
      : trans.__('You have %1.', mine);
    return (
      <button
        type="button"
        className="jp-Elastic-status-button"
        title={label}
        aria-label={trans.__('%1 Open the Elastic panel', label)}
        onClick={() => onOpen(kernel ? 'kernel' : 'kernels')}
      >
        <elasticIcon.react tag="span" className="jp-Elastic-status-icon" />
        <span>{text}</span>
      </button>
    );
  }

  private _onChange(): void {
    this.update();
  }

  private readonly _options: ElasticStatus.IOptions;
}

export namespace ElasticStatus {
  export interface IOptions {
    model: ElasticModel;
    current: CurrentDocument;
    trans: TranslationBundle;
    onOpen: (section: 'kernel' | 'kernels') => void;
  }
}
