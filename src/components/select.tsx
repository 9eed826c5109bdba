import { caretDownEmptyIcon } from '@jupyterlab/ui-components';
import * as React from 'react';

/** A native select that looks like Lab's. */
export function Select(
  props: React.SelectHTMLAttributes<HTMLSelectElement>
): JSX.Element {
  return (
    <div className="jp-Elastic-select">
      <select {...props} className="jp-mod-styled" />
      <caretDownEmptyIcon.react tag="span" className="jp-Elastic-select-caret" />
    </div>
  );
}
