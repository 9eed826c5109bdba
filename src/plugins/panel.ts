import {
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { elasticIcon } from '../icons';
import { followSettings } from '../settings';
import {
  CommandIDs,
  IElasticActions,
  IElasticModel,
  PANEL_ID,
  SETTINGS_ID
} from '../tokens';
import { ElasticPanel } from '../widgets/panel';

/** The panel, and the command that shows it. Owns the settings. */
export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: SETTINGS_ID,
  description: 'The panel "Elastic".',
  autoStart: true,
  requires: [IElasticModel, IElasticActions],
  optional: [ITranslator, ISettingRegistry, ILayoutRestorer, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    model: IElasticModel,
    { actions, current }: IElasticActions,
    translator: ITranslator | null,
    registry: ISettingRegistry | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null
  ) => {
    const trans = (translator ?? nullTranslator).load('jupyter_elastic');
    const { baseUrl } = app.serviceManager.serverSettings;
    const panel = new ElasticPanel({
      model,
      current,
      actions,
      translator: translator ?? undefined,
      iconUrl: path => new URL(path, baseUrl).href
    });
    restorer?.add(panel, PANEL_ID);

    let side = '';
    followSettings(registry, settings => {
      if (settings.side !== side) {
        side = settings.side;
        app.shell.add(panel, side, { rank: 650, type: 'Elastic' });
      }
    }).catch(reason => {
      console.warn('jupyter_elastic: settings were not loaded.', reason);
      app.shell.add(panel, 'left', { rank: 650, type: 'Elastic' });
    });

    app.commands.addCommand(CommandIDs.openPanel, {
      label: trans.__('Show Elastic Panel'),
      caption: trans.__('Resources of this kernel, start form, pool and my kernels'),
      icon: args => (args.isPalette ? undefined : elasticIcon),
      describedBy: {
        args: {
          type: 'object',
          properties: {
            section: {
              type: 'string',
              enum: ['kernel', 'start', 'pool', 'kernels'],
              description: trans.__('The section to unfold.')
            }
          }
        }
      },
      execute: args => {
        app.shell.activateById(PANEL_ID);
        const { section } = args;
        if (
          section === 'kernel' ||
          section === 'start' ||
          section === 'pool' ||
          section === 'kernels'
        ) {
          panel.reveal(section);
        }
      }
    });
    palette?.addItem({
      command: CommandIDs.openPanel,
      category: trans.__('Elastic Kernels'),
      args: { isPalette: true }
    });
  }
};
