import * as React from 'react';

export interface INoticeProps {
  kind: 'error' | 'warning' | 'info' | 'success';
  /** One sentence that says what is. */
  message: string;
  /** One sentence that says what to do. */
  remedy?: string;
  /** Buttons. */
  children?: React.ReactNode;
}

/** A sentence with its remedy, in a box of its kind. */
export function Notice(props: INoticeProps): JSX.Element {
  return (
    <div
      className={`jp-Elastic-notice jp-Elastic-notice-${props.kind}`}
      role={props.kind === 'error' ? 'alert' : 'note'}
    >
      <div>{props.message}</div>
      {props.remedy && <div className="jp-Elastic-remedy">{props.remedy}</div>}
      {props.children && <div className="jp-Elastic-buttons">{props.children}</div>}
    </div>
  );
}
