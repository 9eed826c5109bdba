import { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { IToolbarWidgetRegistry } from '@jupyterlab/apputils';
import { NotebookPanel } from '@jupyterlab/notebook';
import { ITranslator } from '@jupyterlab/translation';
import { CHIP_ITEM, CommandIDs, IElasticModel, PACKAGE } from '../tokens';
import { ElasticChip } from '../widgets/chip';

/** The toolbar chip; where it stands is in the settings (`jupyter.lab.toolbars`). */
export const chipPlugin: JupyterFrontEndPlugin<void> = {
  id: `${PACKAGE}:chip`,
  description: 'Shows the resources of the kernel in the notebook toolbar.',
  autoStart: true,
  requires: [IElasticModel, IToolbarWidgetRegistry],
  optional: [ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    toolbars: IToolbarWidgetRegistry,
    translator: ITranslator | null
  ) => {
    toolbars.addFactory<NotebookPanel>(
      'Notebook',
      CHIP_ITEM,
      panel =>
        new ElasticChip({
          model,
          sessionContext: panel.sessionContext,
          translator: translator ?? undefined,
          onOpen: () => {
            void app.commands.execute(CommandIDs.openPanel, { section: 'kernel' });
          }
        })
    );
  }
};
