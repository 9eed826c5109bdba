import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { Notification } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { LostCells } from '../lostCells';
import { ElasticModel } from '../model';
import { IElasticModel, PACKAGE } from '../tokens';

/** No cell is shown as running for ever because it ended while the server was away. */
export const lostCellsPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:lost-cells`,
  description: 'Marks cells as ended that ended while the server was away.',
  autoStart: true,
  requires: [IElasticModel, INotebookTracker],
  optional: [ITranslator],
  activate: (
    _: JupyterFrontEnd,
    model: ElasticModel,
    notebooks: INotebookTracker,
    translator: ITranslator | null
  ) => {
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    const cells = new LostCells({
      model,
      onLost: (panel, count) => {
        Notification.info(
          trans._n(
            '%1 cell of "%2" is no longer running. What it printed while the server was away is lost; variables are not.',
            '%1 cells of "%2" are no longer running. What they printed while the server was away is lost; variables are not.',
            count,
            panel.title.label
          ),
          { autoClose: 15000 }
        );
      }
    });
    notebooks.forEach(panel => cells.watch(panel));
    notebooks.widgetAdded.connect((_, panel) => cells.watch(panel));
  }
};
