import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { CommandIDs, IElasticActions, IElasticModel, PACKAGE } from '../tokens';
import { ElasticStatus } from '../widgets/status';

/** The status bar's item, where there is a status bar. */
export const statusBarPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:status-bar`,
  description: 'Shows elastic kernels in the status bar.',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [IStatusBar, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    { current }: IElasticActions,
    statusBar: IStatusBar | null,
    translator: ITranslator | null
  ) => {
    if (!statusBar) {
      return;
    }
    const item = new ElasticStatus({
      model,
      current,
      trans: (translator ?? nullTranslator).load('jupyter_elastic'),
      onOpen: section => {
        void app.commands.execute(CommandIDs.openPanel, { section });
      }
    });
    statusBar.registerStatusItem(`${PACKAGE}:status`, {
      item,
      align: 'left',
      rank: 5,
      isActive: () => model.kernels.length > 0,
      activeStateChanged: model.changed
    });
  }
};
