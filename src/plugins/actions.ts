import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ISessionContextDialogs } from '@jupyterlab/apputils';
import { IConsoleTracker } from '@jupyterlab/console';
import { IDefaultFileBrowser } from '@jupyterlab/filebrowser';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator } from '@jupyterlab/translation';
import { ElasticActions } from '../actions';
import { CurrentDocument } from '../current';
import { Ran } from '../ran';
import { IElasticActions, IElasticModel, PACKAGE } from '../tokens';

/** Joins the model with the notebooks and consoles that are open. */
export const actionsPlugin: JupyterFrontEndPlugin<IElasticActions> = {
  id: `${PACKAGE}:actions`,
  description: 'Starts, resizes, restarts and stops elastic kernels.',
  autoStart: true,
  provides: IElasticActions,
  requires: [IElasticModel],
  optional: [
    INotebookTracker,
    IConsoleTracker,
    ISessionContextDialogs,
    ITranslator,
    IDefaultFileBrowser
  ],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    notebooks: INotebookTracker | null,
    consoles: IConsoleTracker | null,
    dialogs: ISessionContextDialogs | null,
    translator: ITranslator | null,
    browser: IDefaultFileBrowser | null
  ) => {
    const current = new CurrentDocument({ shell: app.shell, notebooks, consoles });
    const ran = new Ran(window.sessionStorage);
    for (const tracker of [notebooks, consoles]) {
      tracker?.forEach(panel => ran.watch(panel.sessionContext));
      tracker?.widgetAdded.connect((_, panel) => ran.watch(panel.sessionContext));
    }
    const actions = new ElasticActions({
      model,
      current,
      commands: app.commands,
      serviceManager: app.serviceManager,
      dialogs,
      translator: translator ?? undefined,
      defaultPath: () => browser?.model.path ?? '',
      ran
    });
    return { actions, current };
  }
};
