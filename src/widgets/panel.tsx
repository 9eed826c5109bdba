/**
 * The panel "Elastic": when it draws, what it watches, which sections are folded. What is in it is
 * in `panelBody.tsx`.
 */
import { ReactWidget } from '@jupyterlab/apputils';
import {
  ITranslator,
  nullTranslator,
  TranslationBundle
} from '@jupyterlab/translation';
import { IDisposable } from '@lumino/disposable';
import { Message } from '@lumino/messaging';
import * as React from 'react';
import { ElasticActions } from '../actions';
import { Notice } from '../components/notice';
import { CurrentDocument } from '../current';
import { elasticIcon } from '../icons';
import { loadLazy } from '../loadLazy';
import { ElasticModel } from '../model';
import { PANEL_ID } from '../tokens';
import type { PanelBody, SectionName } from './panelBody';
import { PanelStart } from './panelStart';

export class ElasticPanel extends ReactWidget {
  constructor(options: ElasticPanel.IOptions) {
    super();
    this.id = PANEL_ID;
    this.addClass('jp-Elastic');
    this._model = options.model;
    this._current = options.current;
    this._actions = options.actions;
    this._iconUrl = options.iconUrl ?? (path => path);
    this._trans = (options.translator ?? nullTranslator).load('jupyter_elastic');
    this.title.icon = elasticIcon;
    this.title.caption = this._trans.__('Elastic kernels');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', this._trans.__('Elastic kernels'));
    this.node.tabIndex = -1;
    this._start = new PanelStart({
      model: options.model,
      actions: options.actions,
      // From here on the section of this kernel is what matters.
      onAttached: () => this._open.delete('start'),
      onProblem: error =>
        void options.actions.showProblem(
          this._trans.__('Cannot remove the kernel'),
          error
        )
    });
    this._start.changed.connect(this._draw, this);
    this._model.changed.connect(this._onChange, this);
    this._current.changed.connect(this._onChange, this);
    this._actions.startView = this;
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
    this._start.changed.disconnect(this._draw, this);
    this._model.changed.disconnect(this._onChange, this);
    this._current.changed.disconnect(this._onChange, this);
    this._watch(null);
    if (this._actions.startView === this) {
      this._actions.startView = null;
    }
    super.dispose();
  }

  /** Whether the start form is in front and tells how this start goes. */
  showsStart(id: string): boolean {
    return this.isVisible && this._isOpen('start') && this._start.isOf(id);
  }

  /** Unfold a section, as if by hand, and bring it into view. */
  reveal(name: SectionName): void {
    this._open.set(name, true);
    if (!this._bodyLoaded) {
      this._load();
    }
    void this._bodyLoaded?.then(() => {
      this.update();
      requestAnimationFrame(() => {
        this.node.querySelector(`[data-section="${name}"]`)?.scrollIntoView?.({
          block: 'nearest'
        });
      });
    });
  }

  protected override render(): JSX.Element {
    const { _model: model, _trans: trans, _body: Body } = this;
    const { problem } = model;
    if (this._isBroken) {
      return (
        <Problem
          message={trans.__('A part of the panel could not be loaded.')}
          remedy={trans.__('If that happens again, reload the page.')}
          trans={trans}
          onRetry={this._load}
        />
      );
    }
    const notice = problem && (
      <Problem
        message={problem.message}
        remedy={problem.remedy}
        trans={trans}
        onRetry={this._retry}
      />
    );
    if (!model.isReady || !Body) {
      return (
        notice ?? (
          <div className="jp-Elastic-hint jp-Elastic-waiting">
            {trans.__('Loading…')}
          </div>
        )
      );
    }
    return (
      <>
        {notice}
        <Body
          model={model}
          current={this._current}
          actions={this._actions}
          start={this._start}
          iconUrl={this._iconUrl}
          trans={trans}
          isOpen={name => this._isOpen(name)}
          onToggle={(name, isOpen) => {
            this._open.set(name, isOpen);
            this.update();
          }}
          onOfferStart={() => this._offerStart()}
        />
      </>
    );
  }

  protected override onActivateRequest(_: Message): void {
    this.node.focus();
  }

  protected override onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this._onChange();
  }

  protected override onAfterHide(msg: Message): void {
    super.onAfterHide(msg);
    this._watch(null);
  }

  /** As folded by hand; until then, the start form is open where it is what one needs. */
  private _isOpen(name: SectionName): boolean {
    const byHand = this._open.get(name);
    if (byHand !== undefined) {
      return byHand;
    }
    return name !== 'start' || !this._model.kernel(this._current.kernelId);
  }

  private _offerStart(): void {
    this.reveal('start');
    requestAnimationFrame(() => {
      this.node.querySelector<HTMLElement>('.jp-Elastic-startForm select')?.focus();
    });
  }

  private readonly _load = (): void => {
    this._isBroken = false;
    this._bodyLoaded = loadLazy().then(
      lazy => {
        this._body = lazy.PanelBody;
        this._draw();
      },
      reason => {
        console.warn('jupyter_elastic: a part could not be loaded.', reason);
        this._isBroken = true;
        this._draw();
      }
    );
  };

  private readonly _retry = (): void => {
    // The outcome is shown by `model.problem`.
    void this._model.refresh().catch(() => undefined);
  };

  private _draw(): void {
    if (!this.isDisposed) {
      this.update();
    }
  }

  private _onChange(): void {
    if (!this.isVisible) {
      this._watch(null);
      return;
    }
    if (!this._bodyLoaded) {
      this._load();
    }
    const kernel = this._model.kernel(this._current.kernelId);
    this._watch(kernel?.kernel_id ?? null);
    this.update();
  }

  private _watch(id: string | null): void {
    if (id === this._watchedId) {
      return;
    }
    const next = id ? this._model.watch(id) : null;
    this._watching?.dispose();
    this._watching = next;
    this._watchedId = id;
  }

  private readonly _model: ElasticModel;
  private readonly _current: CurrentDocument;
  private readonly _actions: ElasticActions;
  private readonly _iconUrl: (path: string) => string;
  private readonly _trans: TranslationBundle;
  private readonly _start: PanelStart;
  private readonly _open = new Map<SectionName, boolean>();
  private _body: typeof PanelBody | null = null;
  private _bodyLoaded: Promise<void> | null = null;
  private _isBroken = false;
  private _watching: IDisposable | null = null;
  private _watchedId: string | null = null;
}

function Problem(props: {
  message: string;
  remedy: string;
  trans: TranslationBundle;
  onRetry: () => void;
}): JSX.Element {
  return (
    <Notice kind="error" message={props.message} remedy={props.remedy}>
      <button type="button" className="jp-mod-styled" onClick={props.onRetry}>
        {props.trans.__('Try again')}
      </button>
    </Notice>
  );
}

export namespace ElasticPanel {
  export interface IOptions {
    model: ElasticModel;
    current: CurrentDocument;
    actions: ElasticActions;
    translator?: ITranslator;
    /** Makes the path of a template's icon a URL. */
    iconUrl?: (path: string) => string;
  }
}
