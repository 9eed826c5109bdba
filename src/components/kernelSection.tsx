import { TranslationBundle } from '@jupyterlab/translation';
import { refreshIcon, stopIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import {
  ICapacity,
  IKernel,
  IResourceWish,
  IStatus,
  ITemplate,
  IUsage
} from '../request';
import { hasLess, IResizeState } from '../resize';
import {
  IResourceValue,
  sameValue,
  showResources,
  showValue,
  toValue,
  toWish
} from '../resources';
import { KernelStart } from '../start';
import { ISample } from '../samples';
import { IdleClock } from './idleClock';
import { Notice } from './notice';
import { ResizeStatus } from './resizeStatus';
import { ResourceForm } from './resourceForm';
import { Steps } from './steps';
import { Use } from './use';

export interface IKernelSectionProps {
  kernel: IKernel;
  /** Null when the template is no longer offered: then nothing can be changed. */
  template: ITemplate | null;
  usage: IUsage | null;
  /** Its last readings, oldest first. */
  history: readonly ISample[];
  /** When somebody last asked to keep it; seconds since the epoch. */
  keptAt: number;
  resize: IResizeState | null;
  /** Its way to Running, while it is on it. */
  start: KernelStart | null;
  capacity: ICapacity | null;
  status: IStatus | null;
  canRestart: boolean;
  trans: TranslationBundle;
  onResize: (wish: IResourceWish) => void;
  /** Give it another pod, after asking; with the sentence of a refusal, if one led to it. */
  onMove: (wish: IResourceWish, refusal?: string) => void;
  /** The user goes on: the outcome of the last resize is no longer news. */
  onEdit: () => void;
  onKeepAlive: () => void;
  onRestart: () => void;
  onStop: () => void;
}

/** This kernel: state, use against limits, resize, restart, stop. */
export function KernelSection(props: IKernelSectionProps): JSX.Element {
  const { kernel, template, usage, resize, start, trans } = props;
  const isRunning = kernel.phase === 'Running';
  const isEnded = kernel.phase === 'Failed' || kernel.phase === 'Stopped';
  const name = template?.display_name ?? kernel.display_name ?? kernel.template;
  return (
    <div className="jp-Elastic-kernel">
      <div className="jp-Elastic-kernel-head">
        <span className="jp-Elastic-kernel-name" title={name}>
          {name}
        </span>
        <PhaseLabel kernel={kernel} trans={trans} />
      </div>
      <Where kernel={kernel} status={props.status} trans={trans} />
      {(kernel.message ? kernel.reason || isEnded : kernel.phase === 'Failed') && (
        <Notice
          kind={isEnded || kernel.reason === 'OutOfMemory' ? 'error' : 'info'}
          message={kernel.message || trans.__('It failed (%1).', kernel.reason)}
        />
      )}
      {kernel.warnings?.map(warning => (
        <Notice key={warning} kind="warning" message={warning} />
      ))}
      {start && !start.isDone && <Steps start={start} trans={trans} />}
      {!isEnded && (
        <Use
          kernel={kernel}
          usage={isRunning ? usage : null}
          history={props.history}
          trans={trans}
        />
      )}
      <IdleClock
        kernel={kernel}
        policy={template?.idle}
        keptAt={props.keptAt}
        trans={trans}
        onKeepAlive={props.onKeepAlive}
      />
      {!isEnded && template && (
        <ResizeForm
          key={kernel.kernel_id}
          kernel={kernel}
          template={template}
          capacity={props.capacity}
          resize={resize}
          canResize={isRunning}
          trans={trans}
          onResize={props.onResize}
          onMove={props.onMove}
          onEdit={props.onEdit}
        />
      )}
      <div className="jp-Elastic-buttons">
        <button
          type="button"
          className="jp-mod-styled jp-Elastic-iconButton"
          disabled={!props.canRestart}
          onClick={props.onRestart}
        >
          <refreshIcon.react tag="span" />
          {trans.__('Restart')}
        </button>
        <button
          type="button"
          className="jp-mod-styled jp-Elastic-iconButton"
          onClick={props.onStop}
        >
          <stopIcon.react tag="span" />
          {isEnded ? trans.__('Remove') : trans.__('Stop')}
        </button>
      </div>
    </div>
  );
}

/** The phase as a dot and a word, with what the kernel does while Running. */
export function PhaseLabel(props: {
  kernel: IKernel;
  trans: TranslationBundle;
}): JSX.Element {
  const { kernel, trans } = props;
  const state = kernel.execution_state;
  const phases: { [phase: string]: string } = {
    Queued: trans.__('Queued'),
    Starting: trans.__('Starting'),
    Running: trans.__('Running'),
    Moving: trans.__('Moving'),
    Stopped: trans.__('Stopped'),
    Failed: trans.__('Failed')
  };
  const states: { [state: string]: string } = {
    idle: trans.__('Idle'),
    busy: trans.__('Busy'),
    dead: trans.__('Dead')
  };
  const text =
    kernel.phase === 'Running'
      ? (states[state] ?? phases.Running)
      : (phases[kernel.phase] ?? kernel.phase);
  const look = kernel.phase === 'Running' && state === 'busy' ? 'Busy' : kernel.phase;
  return (
    <span className={`jp-Elastic-phase jp-Elastic-phase-${look}`} title={kernel.reason}>
      {text}
    </span>
  );
}

/** Whose kernel it is and where it runs. */
function Where(props: {
  kernel: IKernel;
  status: IStatus | null;
  trans: TranslationBundle;
}): JSX.Element | null {
  const { kernel, status, trans } = props;
  const { owner, pod } = kernel;
  const isMine = !owner || owner === status?.owner;
  const parts = [
    pod ? trans.__('Pod %1', pod) : '',
    isMine ? '' : trans.__('of %1', owner),
    kernel.start === 'warm' ? trans.__('warm start') : '',
    kernel.start === 'cold' ? trans.__('cold start') : ''
  ].filter(Boolean);
  return parts.length ? (
    <div className="jp-Elastic-hint" title={owner && trans.__('Owner: %1', owner)}>
      {parts.join(' · ')}
    </div>
  ) : null;
}

interface IResizeFormProps {
  kernel: IKernel;
  template: ITemplate;
  capacity: ICapacity | null;
  resize: IResizeState | null;
  canResize: boolean;
  trans: TranslationBundle;
  onResize: (wish: IResourceWish) => void;
  onMove: (wish: IResourceWish, refusal?: string) => void;
  onEdit: () => void;
}

function ResizeForm(props: IResizeFormProps): JSX.Element {
  const { kernel, template, resize, trans } = props;
  const held = toValue(kernel.resources);
  // What the user has set but not applied; null when the form just shows what is.
  const [wanted, setWanted] = React.useState<IResourceValue | null>(null);
  const [isValid, setIsValid] = React.useState(true);
  // Remounts the form, so that a half-typed field is forgotten too.
  const [round, setRound] = React.useState(0);
  const isApplying = resize?.state === 'applying';
  const value = wanted ?? held;
  const hasChanged = !sameValue(value, held);
  const wish = toWish(value, held);
  // A pod has the GPUs that it began with.
  const needsMove = wish.gpu !== undefined;
  const id = React.useId();

  const isDone = resize?.state === 'done';
  React.useEffect(() => {
    if (isDone) {
      setWanted(null);
    }
  }, [isDone]);

  return (
    <form
      className="jp-Elastic-resizeForm"
      aria-label={trans.__('Resize this kernel')}
      onSubmit={event => {
        event.preventDefault();
        if (hasChanged && isValid && props.canResize && !isApplying) {
          (needsMove ? props.onMove : props.onResize)(wish);
        }
      }}
    >
      <ResourceForm
        key={round}
        offer={template.resources}
        value={value}
        held={held}
        capacity={props.capacity}
        disabled={!props.canResize || isApplying}
        trans={trans}
        onChange={(next, valid) => {
          setWanted(next);
          setIsValid(valid);
          props.onEdit();
        }}
      />
      {needsMove && (
        <div id={id} className="jp-Elastic-hint">
          {trans.__('Other GPUs need another pod, and the variables are lost.')}
        </div>
      )}
      {resize?.state === 'refused' && kernel.actual && hasLess(kernel) && (
        <div className="jp-Elastic-hint">
          {trans.__('For now the kernel has %1.', showResources(kernel.actual))}
        </div>
      )}
      <div className="jp-Elastic-buttons">
        <button
          type="submit"
          className="jp-mod-styled jp-mod-accept"
          disabled={!hasChanged || !isValid || !props.canResize || isApplying}
          title={hasChanged ? showValue(value) : undefined}
          aria-describedby={needsMove ? id : undefined}
        >
          {trans.__('Apply')}
        </button>
        {(hasChanged || !isValid) && !isApplying && (
          <button
            type="button"
            className="jp-mod-styled jp-mod-reject"
            onClick={() => {
              setWanted(null);
              setIsValid(true);
              setRound(round + 1);
              props.onEdit();
            }}
          >
            {trans.__('Reset')}
          </button>
        )}
      </div>
      <ResizeStatus
        state={resize}
        canMove={props.canResize}
        trans={trans}
        onMove={refusal => props.onMove(refusal.wish, refusal.message)}
      />
    </form>
  );
}
