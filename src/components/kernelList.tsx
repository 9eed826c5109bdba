import { TranslationBundle } from '@jupyterlab/translation';
import { closeIcon, launchIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import { kernelTitle, notebookOf } from '../actions';
import { IKernel } from '../request';
import { showResources } from '../resources';
import { PhaseLabel } from './kernelSection';
import { Notice } from './notice';

export interface IKernelListProps {
  kernels: readonly IKernel[];
  /** Id of the current document's kernel, to be marked. */
  currentId: string | null;
  /** What the start of a kernel waits for; empty as long as it goes on. */
  obstacleOf: (kernel: IKernel) => string;
  trans: TranslationBundle;
  onOpen: (kernel: IKernel) => void;
  onStop: (kernel: IKernel) => void;
}

/** All my kernels, newest first. */
export function KernelList(props: IKernelListProps): JSX.Element {
  const { kernels, trans } = props;
  if (!kernels.length) {
    return (
      <div className="jp-Elastic-hint">{trans.__('You have no elastic kernels.')}</div>
    );
  }
  return (
    <ul className="jp-Elastic-kernels" aria-label={trans.__('My kernels')}>
      {kernels.map(kernel => (
        <KernelRow key={kernel.kernel_id} {...props} kernel={kernel} />
      ))}
    </ul>
  );
}

function KernelRow(props: IKernelListProps & { kernel: IKernel }): JSX.Element {
  const { kernel, trans, currentId } = props;
  const title = kernelTitle(kernel);
  const path = notebookOf(kernel);
  const isCurrent = kernel.kernel_id === currentId;
  const obstacle = props.obstacleOf(kernel);
  const isEnded = kernel.phase === 'Failed' || kernel.phase === 'Stopped';
  const open = path
    ? trans.__('Open %1', path)
    : trans.__('Attach a notebook to %1', title);
  const stop = isEnded ? trans.__('Remove %1', title) : trans.__('Stop %1', title);
  return (
    <li
      className={isCurrent ? 'jp-Elastic-current' : undefined}
      aria-current={isCurrent || undefined}
    >
      <div className="jp-Elastic-row-text">
        <div className="jp-Elastic-row-title" title={path || title}>
          {title}
        </div>
        <div
          className="jp-Elastic-hint jp-Elastic-row-facts"
          title={kernel.message || kernel.kernel_id}
        >
          <PhaseLabel kernel={kernel} trans={trans} />
          <span>{showResources(kernel.resources)}</span>
          <span title={kernel.display_name}>
            {kernel.display_name ?? kernel.template}
          </span>
        </div>
        {obstacle && <Notice kind="warning" message={obstacle} />}
      </div>
      {!isEnded && !isCurrent && (
        <button
          type="button"
          className="jp-Elastic-row-button"
          title={open}
          aria-label={open}
          onClick={() => props.onOpen(kernel)}
        >
          <launchIcon.react tag="span" />
        </button>
      )}
      <button
        type="button"
        className="jp-Elastic-row-button"
        title={stop}
        aria-label={stop}
        onClick={() => props.onStop(kernel)}
      >
        <closeIcon.react tag="span" />
      </button>
    </li>
  );
}
