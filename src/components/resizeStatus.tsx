import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { IResizeState } from '../resize';
import { Notice } from './notice';

/** How the last resize stands, spoken as well as shown. */
export function ResizeStatus(props: {
  state: IResizeState | null;
  trans: TranslationBundle;
}): JSX.Element {
  const { state, trans } = props;
  return (
    <div className="jp-Elastic-resize" aria-live="polite" role="status">
      {state?.state === 'applying' && (
        <span>
          <span className="jp-Elastic-spinner" aria-hidden="true" />
          {state.message || trans.__('Applying…')}
        </span>
      )}
      {state?.state === 'done' && (
        <span className="jp-Elastic-done">
          {trans.__('Done. The kernel kept its variables.')}
        </span>
      )}
      {state?.state === 'refused' && (
        <Notice kind="error" message={state.message} remedy={state.remedy} />
      )}
    </div>
  );
}
