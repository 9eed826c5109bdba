import { TranslationBundle } from '@jupyterlab/translation';
import { closeIcon, editIcon, launchIcon, linkIcon } from '@jupyterlab/ui-components';
import * as React from 'react';
import { IKernel } from '../request';
import { showResources } from '../resources';
import { kernelTitle, notebookOf, sessionPath } from '../titles';
import { Notice } from './notice';
import { PhaseLabel } from './phaseLabel';

/** From how many kernels on there is a field to find one. */
const MANY = 8;

/** How many are drawn at first, and more at each asking. */
const PAGE = 50;

/** What can be done to kernels; the same object for good, so that rows are not drawn again. */
export interface IRowActions {
  onOpen: (kernel: IKernel) => void;
  onAttach: (kernel: IKernel) => void;
  onStop: (kernel: IKernel) => void;
  onStopMany: (ids: string[]) => void;
}

export interface IKernelListProps {
  kernels: readonly IKernel[];
  /** Id of the current document's kernel, to be marked. */
  currentId: string | null;
  /** What the start of a kernel waits for; empty as long as it goes on. */
  obstacleOf: (kernel: IKernel) => string;
  /** Whether there is a document that could use another kernel. */
  canAttach: boolean;
  actions: IRowActions;
  /** The form for another size of a kernel. */
  renderResize: (kernel: IKernel) => React.ReactNode;
  trans: TranslationBundle;
}

/** All my kernels, newest first; several can be stopped at once. */
export function KernelList(props: IKernelListProps): JSX.Element {
  const { kernels, trans, actions } = props;
  const [selected, setSelected] = React.useState<ReadonlySet<string>>(new Set());
  const [resized, setResized] = React.useState<string | null>(null);
  const [sought, setSought] = React.useState('');
  const [drawn, setDrawn] = React.useState(PAGE);
  const select = React.useCallback((id: string, isSelected: boolean): void => {
    setSelected(before => {
      const now = new Set(before);
      if (isSelected) {
        now.add(id);
      } else {
        now.delete(id);
      }
      return now;
    });
  }, []);
  const resize = React.useCallback((id: string): void => {
    setResized(before => (before === id ? null : id));
  }, []);
  if (!kernels.length) {
    return (
      <div className="jp-Elastic-hint">{trans.__('You have no elastic kernels.')}</div>
    );
  }
  const words = sought.trim().toLowerCase();
  const shown = words ? kernels.filter(one => textOf(one).includes(words)) : kernels;
  // Of kernels that have gone nothing is selected any more.
  const chosen = shown.map(one => one.kernel_id).filter(id => selected.has(id));
  return (
    <>
      {kernels.length >= MANY && (
        <input
          type="search"
          className="jp-mod-styled jp-Elastic-search"
          placeholder={trans.__('Find a kernel')}
          aria-label={trans.__('Find a kernel')}
          value={sought}
          onChange={event => setSought(event.target.value)}
        />
      )}
      {kernels.length > 1 && (
        <div className="jp-Elastic-selection">
          <label>
            <input
              type="checkbox"
              checked={chosen.length > 0 && chosen.length === shown.length}
              onChange={event =>
                setSelected(
                  new Set(event.target.checked ? shown.map(one => one.kernel_id) : [])
                )
              }
            />
            {chosen.length
              ? trans._n('%1 selected', '%1 selected', chosen.length)
              : trans.__('Select all')}
          </label>
          <button
            type="button"
            className="jp-Elastic-link"
            disabled={!chosen.length}
            onClick={() => actions.onStopMany(chosen)}
          >
            {trans.__('Stop selected…')}
          </button>
        </div>
      )}
      <ul className="jp-Elastic-kernels" aria-label={trans.__('My kernels')}>
        {shown.slice(0, drawn).map(kernel => {
          const id = kernel.kernel_id;
          return (
            <KernelRow
              key={id}
              kernel={kernel}
              isCurrent={id === props.currentId}
              isSelected={kernels.length > 1 ? selected.has(id) : null}
              isResized={id === resized}
              canAttach={props.canAttach}
              obstacle={props.obstacleOf(kernel)}
              actions={actions}
              onSelect={select}
              onResize={resize}
              trans={trans}
            >
              {id === resized && props.renderResize(kernel)}
            </KernelRow>
          );
        })}
      </ul>
      {shown.length > drawn && (
        <div className="jp-Elastic-buttons">
          <button
            type="button"
            className="jp-mod-styled"
            onClick={() => setDrawn(drawn + PAGE)}
          >
            {trans._n(
              'Show %1 more',
              'Show %1 more',
              Math.min(PAGE, shown.length - drawn)
            )}
          </button>
        </div>
      )}
      {!shown.length && (
        <div className="jp-Elastic-hint">{trans.__('None is called that.')}</div>
      )}
    </>
  );
}

/** What a kernel is found by. */
function textOf(kernel: IKernel): string {
  const { template, display_name, phase, kernel_id } = kernel;
  return [
    kernelTitle(kernel),
    notebookOf(kernel),
    template,
    display_name,
    phase,
    kernel_id
  ]
    .join(' ')
    .toLowerCase();
}

interface IKernelRowProps {
  kernel: IKernel;
  isCurrent: boolean;
  /** Null where there is nothing to select. */
  isSelected: boolean | null;
  isResized: boolean;
  canAttach: boolean;
  obstacle: string;
  actions: IRowActions;
  onSelect: (id: string, isSelected: boolean) => void;
  onResize: (id: string) => void;
  trans: TranslationBundle;
  children?: React.ReactNode;
}

/** Drawn again only when something of it has changed: there may be hundreds. */
const KernelRow = React.memo(function KernelRow(props: IKernelRowProps): JSX.Element {
  const { kernel, trans, isCurrent, obstacle, actions } = props;
  const id = kernel.kernel_id;
  const title = kernelTitle(kernel);
  const path = notebookOf(kernel);
  const isEnded = kernel.phase === 'Failed' || kernel.phase === 'Stopped';
  const isRunning = kernel.phase === 'Running';
  const opened = sessionPath(kernel);
  return (
    <li
      className={isCurrent ? 'jp-Elastic-current' : undefined}
      aria-current={isCurrent || undefined}
      data-kernel-id={id}
    >
      <div className="jp-Elastic-row">
        {props.isSelected !== null && (
          <input
            type="checkbox"
            aria-label={trans.__('Select %1', title)}
            checked={props.isSelected}
            onChange={event => props.onSelect(id, event.target.checked)}
          />
        )}
        <div className="jp-Elastic-row-text">
          <div className="jp-Elastic-row-title" title={path || title}>
            {title}
          </div>
          <div
            className="jp-Elastic-hint jp-Elastic-row-facts"
            title={kernel.message || id}
          >
            <PhaseLabel kernel={kernel} trans={trans} />
            <span>{showResources(kernel.resources)}</span>
            <span title={kernel.display_name}>
              {kernel.display_name ?? kernel.template}
            </span>
          </div>
          {obstacle && <Notice kind="warning" message={obstacle} />}
        </div>
        <div className="jp-Elastic-row-buttons">
          {!isEnded && !isCurrent && (
            <RowButton
              icon={launchIcon}
              label={
                opened
                  ? trans.__('Open %1', opened)
                  : trans.__('Open a new notebook on %1', title)
              }
              onClick={() => actions.onOpen(kernel)}
            />
          )}
          {isRunning && !isCurrent && props.canAttach && (
            <RowButton
              icon={linkIcon}
              label={trans.__('Use %1 for this notebook', title)}
              onClick={() => actions.onAttach(kernel)}
            />
          )}
          {isRunning && !isCurrent && (
            <RowButton
              icon={editIcon}
              label={trans.__('Resize %1', title)}
              isExpanded={props.isResized}
              onClick={() => props.onResize(id)}
            />
          )}
          <RowButton
            icon={closeIcon}
            label={isEnded ? trans.__('Remove %1', title) : trans.__('Stop %1', title)}
            onClick={() => actions.onStop(kernel)}
          />
        </div>
      </div>
      {props.children}
    </li>
  );
});

function RowButton(props: {
  icon: typeof closeIcon;
  label: string;
  isExpanded?: boolean;
  onClick: () => void;
}): JSX.Element {
  const { icon, label, isExpanded, onClick } = props;
  return (
    <button
      type="button"
      className="jp-Elastic-row-button"
      title={label}
      aria-label={label}
      aria-expanded={isExpanded}
      onClick={onClick}
    >
      <icon.react tag="span" />
    </button>
  );
}
