import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

export interface ILossQuestionProps {
  /** What led to the question; empty where nobody has said so. */
  reason: string;
  /** What will be: one sentence. */
  change: string;
  isBusy: boolean;
  trans: TranslationBundle;
}

/** What a user consents to who lets a kernel go on without its variables, or end. */
export function LossQuestion(props: ILossQuestionProps): JSX.Element {
  const { reason, trans } = props;
  return (
    <div className="jp-Elastic-question">
      {reason && <p>{reason}</p>}
      <p>{props.change}</p>
      <p>
        <strong>{trans.__('All its variables are lost.')}</strong>{' '}
        {trans.__('The notebook and its outputs stay; run the cells again.')}
      </p>
      {props.isBusy && <p>{trans.__('The cell that runs now is ended.')}</p>}
    </div>
  );
}
