/**
 * The panel "Elastic": this kernel, start, pool, my kernels. Brings model, current document and
 * actions to components that know none of them.
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
import { IRowActions, KernelList } from '../components/kernelList';
import { KernelSection } from '../components/kernelSection';
import { Notice } from '../components/notice';
import { PoolSection } from '../components/poolSection';
import { IResizeFormProps, ResizeForm } from '../components/resizeForm';
import { Section } from '../components/section';
import { StartForm } from '../components/startForm';
import { Steps, stepText } from '../components/steps';
import { CurrentDocument } from '../current';
import { elasticIcon } from '../icons';
import { ElasticModel } from '../model';
import { ElasticProblem, IKernel, IStartRequest } from '../request';
import { KernelStart } from '../start';
import { PANEL_ID } from '../tokens';

type SectionName = 'kernel' | 'start' | 'pool' | 'kernels';

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
    this._model.changed.connect(this._onChange, this);
    this._current.changed.connect(this._onChange, this);
    this._actions.startView = this;
  }

  override dispose(): void {
    if (this.isDisposed) {
      return;
    }
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
    if (!this.isVisible || !this._isOpen('start')) {
      return false;
    }
    // A start may fail before its id has come back from the server.
    return this._started ? this._started.kernel.kernel_id === id : this._isStarting;
  }

  /** Unfold a section, as if by hand, and bring it into view. */
  reveal(name: SectionName): void {
    this._open.set(name, true);
    this.update();
    requestAnimationFrame(() => {
      this.node.querySelector(`[data-section="${name}"]`)?.scrollIntoView?.({
        block: 'nearest'
      });
    });
  }

  protected override render(): JSX.Element {
    const { _model: model, _trans: trans } = this;
    if (!model.isReady) {
      return model.problem ? (
        <Problem problem={model.problem} trans={trans} onRetry={this._retry} />
      ) : (
        <div className="jp-Elastic-hint jp-Elastic-waiting">{trans.__('Loading…')}</div>
      );
    }
    const kernel = this._current.live(model.kernel(this._current.kernelId));
    return (
      <>
        {model.problem && (
          <Problem problem={model.problem} trans={trans} onRetry={this._retry} />
        )}
        {this._section('kernel', trans.__('This kernel'), this._renderKernel(kernel))}
        {this._section('start', trans.__('Start a kernel'), this._renderStart())}
        {this._section(
          'pool',
          trans.__('Pool'),
          <PoolSection
            pool={model.pool}
            capacity={model.capacity}
            status={model.status}
            trans={trans}
          />,
          this._warmCount()
        )}
        {this._section(
          'kernels',
          trans.__('My kernels'),
          <KernelList
            kernels={model.kernels.map(one =>
              one.kernel_id === kernel?.kernel_id ? kernel : one
            )}
            currentId={this._current.kernelId}
            obstacleOf={one => {
              const obstacle = model.startOf(one.kernel_id)?.obstacle;
              return obstacle ? stepText(obstacle, trans) : '';
            }}
            trans={trans}
            canAttach={this._current.sessionContext !== null}
            actions={this._rowActions}
            renderResize={one => this._renderResize(one)}
          />,
          String(model.kernels.length)
        )}
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

  private _section(
    name: SectionName,
    title: string,
    body: React.ReactNode,
    badge?: string
  ): JSX.Element {
    return (
      <div data-section={name}>
        <Section
          title={title}
          badge={badge}
          isOpen={this._isOpen(name)}
          onToggle={isOpen => {
            this._open.set(name, isOpen);
            this.update();
          }}
        >
          {body}
        </Section>
      </div>
    );
  }

  /** As folded by hand; until then, the start form is open where it is what one needs. */
  private _isOpen(name: SectionName): boolean {
    const byHand = this._open.get(name);
    if (byHand !== undefined) {
      return byHand;
    }
    return name !== 'start' || !this._model.kernel(this._current.kernelId);
  }

  private _renderKernel(kernel: IKernel | null): JSX.Element {
    const { _model: model, _current: current, _trans: trans } = this;
    if (kernel) {
      const id = kernel.kernel_id;
      return (
        <KernelSection
          kernel={kernel}
          template={model.template(kernel.template)}
          usage={model.usage(id)}
          history={model.history(id)}
          keptAt={model.keptAt(id)}
          resize={model.resizeOf(id)}
          start={model.startOf(id)}
          capacity={model.capacity}
          status={model.status}
          canRestart={kernel.phase === 'Running' && this._actions.canRestart(id)}
          trans={trans}
          {...this._resizing(id)}
          onKeepAlive={() =>
            this._run(trans.__('Cannot keep the kernel'), model.keepAlive(id))
          }
          onRestart={() =>
            this._run(trans.__('Cannot restart'), this._actions.restart(id))
          }
          onStop={() => this._stop(id)}
        />
      );
    }
    if (!current.sessionContext) {
      return (
        <div className="jp-Elastic-hint">
          {trans.__('No notebook or console is open.')}
        </div>
      );
    }
    return (
      <div>
        <div className="jp-Elastic-plain">
          {current.kernelId
            ? trans.__(
                '"%1" is on the plain kernel %2: its resources cannot be changed.',
                current.name,
                current.kernelName
              )
            : trans.__('"%1" has no kernel.', current.name)}
        </div>
        <div className="jp-Elastic-buttons">
          <button
            type="button"
            className="jp-mod-styled jp-mod-accept"
            onClick={() => {
              this.reveal('start');
              requestAnimationFrame(() => {
                this.node
                  .querySelector<HTMLElement>('.jp-Elastic-startForm select')
                  ?.focus();
              });
            }}
          >
            {trans.__('Run on an elastic kernel')}
          </button>
        </div>
      </div>
    );
  }

  private _renderResize(kernel: IKernel): JSX.Element {
    const { _model: model, _trans: trans } = this;
    const id = kernel.kernel_id;
    const template = model.template(kernel.template);
    return template ? (
      <ResizeForm
        kernel={kernel}
        template={template}
        capacity={model.capacity}
        resize={model.resizeOf(id)}
        canResize={kernel.phase === 'Running'}
        trans={trans}
        {...this._resizing(id)}
      />
    ) : (
      <div className="jp-Elastic-hint">
        {trans.__('Its template is no longer offered.')}
      </div>
    );
  }

  private _resizing(
    id: string
  ): Pick<IResizeFormProps, 'onResize' | 'onMove' | 'onEdit'> {
    return {
      onResize: wish => {
        // A refusal is shown in the form, with its remedy.
        void this._actions.resize(id, wish).catch(() => undefined);
      },
      onMove: (wish, refusal) => {
        void this._actions.replace(id, wish, refusal).catch(() => undefined);
      },
      onEdit: () => this._model.clearResize(id)
    };
  }

  private _renderStart(): JSX.Element {
    const { _model: model, _current: current, _trans: trans } = this;
    const context = current.sessionContext;
    return (
      <>
        <StartForm
          templates={model.templates}
          templateProblems={model.templateProblems}
          capacity={model.capacity}
          preferred={context?.session?.kernel?.name}
          target={context ? current.name : ''}
          problem={this._startProblem}
          isStarting={this._isStarting}
          remembered={model.remembered}
          iconUrl={this._iconUrl}
          trans={trans}
          onStart={request => void this._start(request)}
          onDismiss={() => {
            this._forgetStart();
            this.update();
          }}
        />
        {this._started && (
          <Steps
            start={this._started}
            trans={trans}
            onCancel={() => this._stop(this._started!.kernel.kernel_id, false)}
          />
        )}
      </>
    );
  }

  private async _start(request: IStartRequest): Promise<void> {
    this._forgetStart();
    this._isStarting = true;
    this.update();
    try {
      const { start, attached } = await this._actions.start(request);
      const { template, resources } = request;
      this._model.remembered.noteChoice(template, resources ?? {});
      this._started = start;
      this.update();
      await attached;
      this._started = null;
      // From here on the section of this kernel is what matters.
      this._open.delete('start');
    } catch (error) {
      this._startProblem = ElasticProblem.from(error);
    } finally {
      this._isStarting = false;
      if (!this.isDisposed) {
        this.update();
      }
    }
  }

  /** The last start is no longer news; the record of one that failed is removed. */
  private _forgetStart(): void {
    const id = this._started?.kernel.kernel_id;
    this._started = null;
    this._startProblem = null;
    if (id) {
      this._run(
        this._trans.__('Cannot remove the kernel'),
        this._model.dismissStart(id)
      );
    }
  }

  private _stop(id: string, ask = true): void {
    this._run(this._trans.__('Cannot stop the kernel'), this._actions.stop(id, ask));
  }

  private _run(failure: string, work: Promise<unknown>): void {
    work.catch(error => this._actions.showProblem(failure, error));
  }

  /** One object for good, so that rows are not drawn again for it. */
  private readonly _rowActions: IRowActions = {
    onOpen: one => this._run(this._trans.__('Cannot open'), this._actions.open(one)),
    onAttach: one =>
      this._run(this._trans.__('Cannot attach'), this._actions.attach(one)),
    onStop: one => this._stop(one.kernel_id),
    onStopMany: ids =>
      this._run(
        this._trans.__('Not every kernel was stopped'),
        this._actions.stopMany(ids)
      )
  };

  private readonly _retry = (): void => {
    // The outcome is shown by `model.problem`.
    void this._model.refresh().catch(() => undefined);
  };

  private _warmCount(): string {
    const warm = this._model.templates.reduce((sum, one) => sum + one.warm, 0);
    return this._trans.__('%1 warm', warm);
  }

  private _onChange(): void {
    if (!this.isVisible) {
      this._watch(null);
      return;
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
  private readonly _open = new Map<SectionName, boolean>();
  private _watching: IDisposable | null = null;
  private _watchedId: string | null = null;
  private _isStarting = false;
  private _started: KernelStart | null = null;
  private _startProblem: ElasticProblem | null = null;
}

function Problem(props: {
  problem: ElasticProblem;
  trans: TranslationBundle;
  onRetry: () => void;
}): JSX.Element {
  return (
    <Notice kind="error" message={props.problem.message} remedy={props.problem.remedy}>
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
