import { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import { KernelPhase } from '../request';
import { BLOCKED, KernelStart } from '../start';
import { stepText } from '../stepText';
import { Notice } from './notice';
import { useNow } from './useNow';

export interface IStepsProps {
  start: KernelStart;
  trans: TranslationBundle;
  /** Without it there is no button to cancel. */
  onCancel?: () => void;
}

/** The dated steps of a start, as they come. */
export function Steps(props: IStepsProps): JSX.Element {
  const { start, trans } = props;
  const { obstacle } = start;
  const now = useNow(!start.isDone);
  // Why a start failed is said once, in the form; what it waits for, below.
  const steps = start.steps.filter(step => step.name !== 'failed' && step !== obstacle);
  const began = start.steps[0]?.time ?? start.kernel.created;
  return (
    <div className="jp-Elastic-steps">
      <ol aria-live="polite" aria-label={trans.__('Steps of the start')}>
        {steps.map((step, index) => (
          <li key={`${step.time}-${index}`}>
            {step.name === BLOCKED ? (
              <span className="jp-Elastic-step-icon" aria-hidden="true" />
            ) : (
              <checkIcon.react tag="span" className="jp-Elastic-step-icon" />
            )}
            <span className="jp-Elastic-step-text">{stepText(step, trans)}</span>
            <span className="jp-Elastic-step-time">
              {trans.__('%1 s', Math.max(0, step.time - began).toFixed(1))}
            </span>
          </li>
        ))}
        {!start.isDone && (
          <li className="jp-Elastic-step-now">
            <span className="jp-Elastic-spinner" aria-hidden="true" />
            <span className="jp-Elastic-step-text">
              {obstacle ? trans.__('Waiting…') : underWay(start.phase, trans)}
            </span>
            {steps.length > 0 && (
              <span className="jp-Elastic-step-time" aria-live="off">
                {trans.__('%1 s', Math.max(0, now - began).toFixed(0))}
              </span>
            )}
          </li>
        )}
      </ol>
      <div aria-live="polite">
        {obstacle && <Notice kind="warning" message={stepText(obstacle, trans)} />}
      </div>
      {!start.isDone && props.onCancel && (
        <div className="jp-Elastic-buttons">
          <button
            type="button"
            className="jp-mod-styled jp-mod-reject"
            onClick={props.onCancel}
          >
            {trans.__('Cancel start')}
          </button>
        </div>
      )}
    </div>
  );
}

function underWay(phase: KernelPhase, trans: TranslationBundle): string {
  switch (phase) {
    case 'Queued':
      return trans.__('Queued…');
    case 'Moving':
      return trans.__('Moving…');
    default:
      return trans.__('Starting…');
  }
}
