import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { foretellEnd } from '../idle';
import { IIdlePolicy, IKernel } from '../request';
import { useNow } from './useNow';

export interface IIdleClockProps {
  kernel: IKernel;
  policy: IIdlePolicy | undefined;
  /** When somebody last asked to keep the kernel; seconds since the epoch. */
  keptAt: number;
  trans: TranslationBundle;
  onKeepAlive: () => void;
}

/** When the kernel will be ended, and a button against it. Nothing where it will not. */
export function IdleClock(props: IIdleClockProps): JSX.Element | null {
  const { kernel, policy, trans } = props;
  const now = useNow(!!policy && !!(policy.cull_after || policy.max_age));
  const end = foretellEnd(kernel, policy, now, props.keptAt);
  if (!end) {
    return null;
  }
  const left = showDuration(end.left, trans);
  return (
    <div className="jp-Elastic-idle">
      <span className="jp-Elastic-hint" role="timer">
        {end.cause === 'idle'
          ? trans.__('Ends in %1 if it stays idle.', left)
          : trans.__('Ends in %1: its greatest age.', left)}
      </span>
      {end.cause === 'idle' && (
        <button
          type="button"
          className="jp-Elastic-link"
          title={trans.__('Start the idle time anew')}
          onClick={props.onKeepAlive}
        >
          {trans.__('Keep alive')}
        </button>
      )}
    </div>
  );
}

/** A duration for a sentence: "45 s", "12 min", "3 h 5 min". */
export function showDuration(seconds: number, trans: TranslationBundle): string {
  if (seconds < 90) {
    return trans.__('%1 s', Math.ceil(seconds));
  }
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) {
    return trans.__('%1 min', minutes);
  }
  const hours = Math.floor(minutes / 60);
  return minutes % 60
    ? trans.__('%1 h %2 min', hours, minutes % 60)
    : trans.__('%1 h', hours);
}
