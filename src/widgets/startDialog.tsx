/**
 * The kernel dialog: template and resources for the current document or a new notebook.
 */
import { Dialog, ReactWidget } from '@jupyterlab/apputils';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import { ElasticActions } from '../actions';
import { StartForm } from '../components/startForm';
import { IAsked } from '../link';
import { ElasticModel } from '../model';
import { leaving } from '../questions';
import { ElasticProblem, IStartRequest } from '../request';

export class StartDialogBody extends ReactWidget {
  constructor(options: StartDialogBody.IOptions) {
    super();
    this.addClass('jp-Elastic-startDialog');
    this._options = options;
    options.model.changed.connect(this._onChange, this);
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this._options.model.changed.disconnect(this._onChange, this);
      super.dispose();
    }
  }

  protected override render(): JSX.Element {
    const { model, trans } = this._options;
    return (
      <StartForm
        templates={model.templates}
        templateProblems={model.templateProblems}
        capacity={model.capacity}
        preferred={this._options.template}
        asked={this._options.asked}
        target={this._options.target}
        loss={this._loss}
        problem={this._problem}
        isStarting={this._isStarting}
        remembered={model.remembered}
        iconUrl={this._options.iconUrl}
        trans={trans}
        onStart={request => void this._start(request)}
        onDismiss={() => {
          this._problem = null;
          this.update();
        }}
      />
    );
  }

  /** What a start for the current document loses; empty where nothing is. */
  private get _loss(): string {
    const { actions, isNew, target, trans } = this._options;
    return !isNew && actions.wouldLose ? leaving(target, trans) : '';
  }

  private async _start(request: IStartRequest): Promise<void> {
    const { actions, model, trans, isNew } = this._options;
    this._problem = null;
    this._isStarting = true;
    this.update();
    try {
      // A dialog of its own would wait for this one: the form has said what is lost.
      const hasConsent = this._loss !== '';
      const begun = await actions.start(request, { isNew, hasConsent });
      model.remembered.noteChoice(request.template, request.resources ?? {});
      // From here on notifications tell how the start goes, and why it failed.
      begun?.attached.catch(error => {
        if (!begun.start.problem) {
          void actions.showProblem(trans.__('Cannot attach'), error);
        }
      });
      this._options.onStarted();
    } catch (error) {
      this._problem = ElasticProblem.from(error);
    }
    this._isStarting = false;
    this.update();
  }

  private _onChange(): void {
    this.update();
  }

  private readonly _options: StartDialogBody.IOptions;
  private _isStarting = false;
  private _problem: ElasticProblem | null = null;
}

/** Show the dialog until a start is accepted or the user goes away. */
export async function showStartDialog(
  options: Omit<StartDialogBody.IOptions, 'onStarted'>
): Promise<void> {
  const { trans } = options;
  const body = new StartDialogBody({ ...options, onStarted: () => dialog.reject() });
  const dialog = new Dialog({
    title: trans.__('Start an elastic kernel'),
    body,
    buttons: [Dialog.cancelButton()],
    focusNodeSelector: 'select'
  });
  await dialog.launch();
}

export namespace StartDialogBody {
  export interface IOptions {
    model: ElasticModel;
    actions: ElasticActions;
    trans: TranslationBundle;
    /** Which template to begin with. */
    template?: string;
    /** What a link asks for. */
    asked?: IAsked;
    /** Where the kernel will be used; empty for a new notebook. */
    target: string;
    isNew: boolean;
    /** Makes the path of a template's icon a URL. */
    iconUrl: (path: string) => string;
    onStarted: () => void;
  }
}
