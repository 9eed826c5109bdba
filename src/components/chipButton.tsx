import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { isStarting } from '../happenings';
import { showMemory, showUsed } from '../quantities';
import { IKernel, IUsage } from '../request';
import { showResources, toValue } from '../resources';
import { levelOf, partOf } from './useBar';

export interface IChipButtonProps {
  kernel: IKernel;
  usage: IUsage | null;
  trans: TranslationBundle;
  onOpen: () => void;
}

/** The resources of a notebook's kernel in its toolbar, with how much memory is in use. */
export function ChipButton(props: IChipButtonProps): JSX.Element {
  const { kernel, usage, trans } = props;
  const resources = showResources(kernel.resources);
  const limit = toValue(kernel.actual ?? kernel.resources).memory;
  const part = partOf(usage ? usage.memory : null, limit);
  const use = usage
    ? trans.__('%1 of %2 memory in use', showUsed(usage.memory), showMemory(limit))
    : '';
  const text = isStarting(kernel)
    ? trans.__('Starting…')
    : kernel.phase === 'Moving'
      ? trans.__('Moving…')
      : resources;
  const label = trans.__('Elastic kernel: %1. Open the Elastic panel', resources);
  return (
    <button
      type="button"
      className={`jp-Elastic-chip jp-Elastic-chip-${kernel.phase}`}
      title={[kernel.message, label, use].filter(Boolean).join('\n')}
      aria-label={use ? `${label} (${use})` : label}
      onClick={props.onOpen}
    >
      <span className="jp-Elastic-chip-text">{text}</span>
      <span className="jp-Elastic-bar" aria-hidden="true">
        <span
          className={`jp-Elastic-bar-fill ${levelOf(part)}`}
          style={{ width: `${Math.round((part ?? 0) * 100)}%` }}
        />
      </span>
    </button>
  );
}
