import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { IKernel } from '../request';

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
