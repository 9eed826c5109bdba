/**
 * What is in the panel. Brings model, current document and actions to components that know none
 * of them; loaded when the panel is first shown.
 */
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { ElasticActions } from '../actions';
import { IRowActions, KernelList } from '../components/kernelList';
import { KernelSection } from '../components/kernelSection';
import { PoolSection } from '../components/poolSection';
import { IResizeFormProps, ResizeForm } from '../components/resizeForm';
import { Section } from '../components/section';
import { StartForm } from '../components/startForm';
import { Steps } from '../components/steps';
import { CurrentDocument } from '../current';
import { ElasticModel } from '../model';
import { IKernel, IStartRequest } from '../request';
import { stepText } from '../stepText';
import { PanelStart } from './panelStart';

export type SectionName = 'kernel' | 'start' | 'pool' | 'kernels';

export interface IPanelBodyProps {
  model: ElasticModel;
  current: CurrentDocument;
  actions: ElasticActions;
  start: PanelStart;
  iconUrl: (path: string) => string;
  trans: TranslationBundle;
  isOpen: (name: SectionName) => boolean;
  onToggle: (name: SectionName, isOpen: boolean) => void;
  /** Bring the start form to the user. */
  onOfferStart: () => void;
}

/** The four sections. Drawn anew by whoever holds it, when anything of that has changed. */
export function PanelBody(props: IPanelBodyProps): JSX.Element {
  const { model, current, actions, trans } = props;
  const rowActions = React.useMemo(
    () => rowActionsOf(actions, trans),
    [actions, trans]
  );
  const known = model.kernel(current.kernelId);
  const kernel = current.live(known);
  const kernels =
    kernel === known
      ? model.kernels
      : model.kernels.map(one => (one === known && kernel ? kernel : one));
  const section = (
    name: SectionName,
    title: string,
    body: React.ReactNode,
    badge?: string
  ): JSX.Element => (
    <div data-section={name}>
      <Section
        title={title}
        badge={badge}
        isOpen={props.isOpen(name)}
        onToggle={isOpen => props.onToggle(name, isOpen)}
      >
        {body}
      </Section>
    </div>
  );
  const warm = model.templates.reduce((sum, one) => sum + one.warm, 0);
  return (
    <>
      {section(
        'kernel',
        trans.__('This kernel'),
        kernel ? <ThisKernel {...props} kernel={kernel} /> : <OtherKernel {...props} />
      )}
      {section('start', trans.__('Start a kernel'), <Start {...props} />)}
      {section(
        'pool',
        trans.__('Pool'),
        <PoolSection
          pool={model.pool}
          capacity={model.capacity}
          status={model.status}
          trans={trans}
        />,
        trans.__('%1 warm', warm)
      )}
      {section(
        'kernels',
        trans.__('My kernels'),
        <KernelList
          kernels={kernels}
          currentId={current.kernelId}
          obstacleOf={one => {
            const obstacle = model.startOf(one.kernel_id)?.obstacle;
            return obstacle ? stepText(obstacle, trans) : '';
          }}
          trans={trans}
          canAttach={current.sessionContext !== null}
          actions={rowActions}
          renderResize={one => <OtherSize {...props} kernel={one} />}
        />,
        String(model.kernels.length)
      )}
    </>
  );
}

interface IKernelProps extends IPanelBodyProps {
  kernel: IKernel;
}

/** The elastic kernel of the document in front. */
function ThisKernel(props: IKernelProps): JSX.Element {
  const { kernel, model, actions, trans } = props;
  const id = kernel.kernel_id;
  const verbs = React.useMemo(() => resizing(id, model, actions), [id, model, actions]);
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
      canRestart={kernel.phase === 'Running' && actions.canRestart(id)}
      trans={trans}
      {...verbs}
      onKeepAlive={() =>
        actions.attempt(trans.__('Cannot keep the kernel'), model.keepAlive(id))
      }
      onRestart={() => actions.attempt(trans.__('Cannot restart'), actions.restart(id))}
      onStop={() =>
        actions.attempt(trans.__('Cannot stop the kernel'), actions.stop(id))
      }
    />
  );
}

/** The document in front is on no elastic kernel, or there is none. */
function OtherKernel(props: IPanelBodyProps): JSX.Element {
  const { current, trans } = props;
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
          onClick={props.onOfferStart}
        >
          {trans.__('Run on an elastic kernel')}
        </button>
      </div>
    </div>
  );
}

/** The form for a kernel that no document in front is on. */
function OtherSize(props: IKernelProps): JSX.Element {
  const { kernel, model, actions, trans } = props;
  const id = kernel.kernel_id;
  const template = model.template(kernel.template);
  const verbs = React.useMemo(() => resizing(id, model, actions), [id, model, actions]);
  return template ? (
    <ResizeForm
      kernel={kernel}
      template={template}
      capacity={model.capacity}
      resize={model.resizeOf(id)}
      canResize={kernel.phase === 'Running'}
      trans={trans}
      {...verbs}
    />
  ) : (
    <div className="jp-Elastic-hint">
      {trans.__('Its template is no longer offered.')}
    </div>
  );
}

function Start(props: IPanelBodyProps): JSX.Element {
  const { model, current, actions, start, trans } = props;
  const context = current.sessionContext;
  const { accepted } = start;
  const onStart = React.useCallback(
    (request: IStartRequest): void => void start.begin(request),
    [start]
  );
  const onDismiss = React.useCallback((): void => start.forget(), [start]);
  return (
    <>
      <StartForm
        templates={model.templates}
        templateProblems={model.templateProblems}
        capacity={model.capacity}
        preferred={context?.session?.kernel?.name}
        target={context ? current.name : ''}
        problem={start.problem}
        isStarting={start.isUnderWay}
        remembered={model.remembered}
        iconUrl={props.iconUrl}
        trans={trans}
        onStart={onStart}
        onDismiss={onDismiss}
      />
      {accepted && (
        <Steps
          start={accepted}
          trans={trans}
          onCancel={() =>
            actions.attempt(
              trans.__('Cannot stop the kernel'),
              actions.stop(accepted.kernel.kernel_id, false)
            )
          }
        />
      )}
    </>
  );
}

function resizing(
  id: string,
  model: ElasticModel,
  actions: ElasticActions
): Pick<IResizeFormProps, 'onResize' | 'onMove' | 'onEdit'> {
  return {
    onResize: wish => {
      // A refusal is shown in the form, with its remedy.
      void actions.resize(id, wish).catch(() => undefined);
    },
    onMove: (wish, refusal) => {
      void actions.replace(id, wish, refusal).catch(() => undefined);
    },
    onEdit: () => model.clearResize(id)
  };
}

function rowActionsOf(actions: ElasticActions, trans: TranslationBundle): IRowActions {
  return {
    onOpen: one => actions.attempt(trans.__('Cannot open'), actions.open(one)),
    onAttach: one => actions.attempt(trans.__('Cannot attach'), actions.attach(one)),
    onStop: one =>
      actions.attempt(trans.__('Cannot stop the kernel'), actions.stop(one.kernel_id)),
    onStopMany: ids =>
      actions.attempt(trans.__('Not every kernel was stopped'), actions.stopMany(ids))
  };
}
