import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { isMovable, IResizeState } from '../resize';
import { Notice } from './notice';

export interface IResizeStatusProps {
  state: IResizeState | null;
  /** Whether the kernel is in a state in which it can be moved. */
  canMove: boolean;
  trans: TranslationBundle;
  /** Offered where another pod can have the size; asks before it does anything. */
  onMove: (refusal: IResizeState) => void;
}

/** How the last resize stands, spoken as well as shown. */
export function ResizeStatus(props: IResizeStatusProps): JSX.Element {
  const { state, trans } = props;
  return (
    <div className="jp-Elastic-resize" aria-live="polite" role="status">
      {state?.state === 'applying' && (
        <div className="jp-Elastic-applying">
          <span className="jp-Elastic-spinner" aria-hidden="true" />
          <span>{state.message || applyingText(state, trans)}</span>
        </div>
      )}
      {state?.state === 'done' && (
        <span className="jp-Elastic-done">{doneText(state, trans)}</span>
      )}
      {state?.state === 'refused' && (
        <Notice
          kind="error"
          message={state.message || trans.__('It was refused (%1).', state.reason)}
          remedy={state.remedy}
        >
          {isMovable(state.reason) && (
            <button
              type="button"
              className="jp-mod-styled"
              disabled={!props.canMove}
              onClick={() => props.onMove(state)}
            >
              {trans.__('Move to another pod…')}
            </button>
          )}
        </Notice>
      )}
    </div>
  );
}

function applyingText(state: IResizeState, trans: TranslationBundle): string {
  return state.replaces ? trans.__('Moving to another pod…') : trans.__('Applying…');
}

function doneText(state: IResizeState, trans: TranslationBundle): string {
  if (state.replaces) {
    return trans.__('Done. The kernel is in another pod, without its variables.');
  }
  return state.ranOut
    ? trans.__('Done. Run the cells again.')
    : trans.__('Done. The kernel kept its variables.');
}
