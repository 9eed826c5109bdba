import { TranslationBundle } from '@jupyterlab/translation';
import { refreshIcon, stopIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import { raisedMemory } from '../fitting';
import { formatMemory, showMemory } from '../quantities';
import {
  ICapacity,
  IKernel,
  IResourceWish,
  IStatus,
  ITemplate,
  IUsage
} from '../request';
import { IResizeState } from '../resize';
import { KernelStart } from '../start';
import { ISample } from '../samples';
import { IdleClock } from './idleClock';
import { Notice } from './notice';
import { PhaseLabel } from './phaseLabel';
import { ResizeForm } from './resizeForm';
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
  const more = template
    ? raisedMemory(kernel.resources, template.resources, props.capacity)
    : null;
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
        >
          {kernel.reason === 'OutOfMemory' && isRunning && more !== null && (
            <button
              type="button"
              className="jp-mod-styled"
              disabled={resize?.state === 'applying'}
              onClick={() => props.onResize({ memory: formatMemory(more) })}
            >
              {trans.__('Raise to %1', showMemory(more))}
            </button>
          )}
        </Notice>
      )}
      {kernel.warnings?.map(warning => (
        <Notice key={warning} kind="warning" message={warning} />
      ))}
      {start && !start.isDone && (
        <Steps start={start} trans={trans} onCancel={props.onStop} />
      )}
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

/** Whose kernel it is and where it runs. */
function Where(props: {
  kernel: IKernel;
  status: IStatus | null;
  trans: TranslationBundle;
}): JSX.Element | null {
  const { kernel, status, trans } = props;
  const { owner, pod, node } = kernel;
  const isMine = !owner || owner === status?.owner;
  const parts = [
    pod && node ? trans.__('Pod %1 on %2', pod, node) : '',
    pod && !node ? trans.__('Pod %1', pod) : '',
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
