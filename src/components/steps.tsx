import { TranslationBundle } from '@jupyterlab/translation';
import { checkIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import { KernelStart } from '../start';

export interface IStepsProps {
  start: KernelStart;
  trans: TranslationBundle;
  onCancel: () => void;
}

/** What a step is called where the server gives no sentence. */
export function stepText(
  step: { name: string; message: string },
  trans: TranslationBundle
): string {
  if (step.message) {
    return step.message;
  }
  const names: { [name: string]: string } = {
    queued: trans.__('Waiting for room'),
    created: trans.__('Pod created'),
    claimed: trans.__('Warm pod claimed'),
    'agent-up': trans.__('Agent is up'),
    resized: trans.__('Resources are set'),
    'kernel-up': trans.__('Kernel is up'),
    failed: trans.__('Start failed')
  };
  return names[step.name] ?? step.name;
}

/** The dated steps of a start, as they come. */
export function Steps(props: IStepsProps): JSX.Element {
  const { start, trans } = props;
  // Why a start failed is said once, in the form.
  const steps = start.steps.filter(step => step.name !== 'failed');
  const began = start.steps[0]?.time ?? start.kernel.created;
  return (
    <div className="jp-Elastic-steps">
      <ol aria-live="polite" aria-label={trans.__('Steps of the start')}>
        {steps.map((step, index) => (
          <li key={`${step.time}-${index}`}>
            <checkIcon.react tag="span" className="jp-Elastic-step-icon" />
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
              {start.phase === 'Queued' ? trans.__('Queued…') : trans.__('Starting…')}
            </span>
          </li>
        )}
      </ol>
      {!start.isDone && (
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
